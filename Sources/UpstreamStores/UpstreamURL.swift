internal import CCurl

/// The base URL of an HTTP store, taken apart by libcurl's own parser, so that both agree on the host.
struct UpstreamURL: Sendable {
    /// Longer ones are refused.
    static let maxBytes = 2_048

    let scheme: String
    /// Where it leads to; the port is the scheme's where none is written.
    let endpoint: Endpoint
    /// What stands in it, decoded.
    let credential: Credential?
    /// Without user name and password.
    let label: String
    /// What stands before the path of a chunk, without a slash at the end.
    private let base: String
    /// "?…" or nothing.
    private let query: String
    /// What it names itself, without credentials.
    let whole: String

    /// - Throws: `.unusable` when `text` is no http or https URL.
    init(_ text: String) throws(UpstreamError) {
        guard text.utf8.count <= Self.maxBytes, !text.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7f }), let parsed = curl_url() else {
            throw .unusable(line: "\(Self.label(of: text)): not a URL")
        }
        defer { curl_url_cleanup(parsed) }
        // Any scheme is parsed, so that the error can name it.
        let anyScheme: UInt32 = 1 << 3
        guard curl_url_set(parsed, CURLUPART_URL, text, anyScheme) == CURLUE_OK, let scheme = Self.part(parsed, CURLUPART_SCHEME) else {
            throw .unusable(line: "\(Self.label(of: text)): not a URL")
        }
        guard scheme == "http" || scheme == "https" else {
            throw .unusable(line: "\(Self.label(of: text)): stores of the kind \(scheme):// are not supported")
        }
        guard let host = Self.part(parsed, CURLUPART_HOST), !host.isEmpty else {
            throw .unusable(line: "\(Self.label(of: text)): names no host")
        }
        self.scheme = scheme
        let port = Self.part(parsed, CURLUPART_PORT).flatMap { Int($0) } ?? (scheme == "https" ? 443 : 80)
        endpoint = Endpoint(host: host, port: port)
        let decoded: UInt32 = 1 << 6  // CURLU_URLDECODE
        let (user, password) = (Self.part(parsed, CURLUPART_USER, flags: decoded), Self.part(parsed, CURLUPART_PASSWORD, flags: decoded))
        credential = user == nil && password == nil ? nil : Credential(user: user ?? "", password: password ?? "")
        query = Self.part(parsed, CURLUPART_QUERY).map { "?\($0)" } ?? ""
        curl_url_set(parsed, CURLUPART_FRAGMENT, nil, 0)
        curl_url_set(parsed, CURLUPART_QUERY, nil, 0)
        curl_url_set(parsed, CURLUPART_USER, nil, 0)
        curl_url_set(parsed, CURLUPART_PASSWORD, nil, 0)
        let bare = Self.part(parsed, CURLUPART_URL) ?? ""
        whole = bare + query
        base = Self.withoutSlash(bare)
        label = base
    }

    /// The URL of the file whose name has `suffix` behind it.
    func url(withSuffix suffix: String) -> String { base + suffix + query }

    /// The URL of `name` below the base.
    func url(of name: String) -> String { "\(base)/\(name)\(query)" }

    /// `text` without what may be a password or a token, cut to a length that fits a log line, whether it is a URL or not.
    static func label(of text: String) -> String {
        let scheme = text.prefix { $0 != ":" }.lowercased()
        // Not cut, which might cut in the middle of a secret.
        guard text.utf8.count <= maxBytes else { return "\(printable(String(scheme.prefix(16))))://… (\(text.utf8.count) bytes)" }
        // A path may hold any character, and no secret.
        if scheme == "dir" { return printable(text) }
        var rest = text.prefix { $0 != "?" && $0 != "#" }
        var start = ""
        while let end = rest.firstRange(of: "://"), end.lowerBound > rest.startIndex,
            rest[..<end.lowerBound].allSatisfy(\.isSchemeCharacter)
        {
            start += rest[..<end.upperBound]
            rest = rest[end.upperBound...]
        }
        // Also behind a slash: a secret may hold one that should have been written %2F.
        if let at = rest.lastIndex(of: "@") { rest = rest[rest.index(after: at)...] }
        return printable(start + rest)
    }

    /// `text` on one line, cut to 160 characters.
    static func printable(_ text: String) -> String {
        String(text.unicodeScalars.prefix(160).map { $0.value < 0x20 || (0x7f..<0xa0).contains($0.value) ? "?" : Character($0) })
    }

    private static func withoutSlash(_ text: String) -> String {
        String(text[..<(text.lastIndex { $0 != "/" }.map { text.index(after: $0) } ?? text.startIndex)])
    }

    static func part(_ parsed: OpaquePointer, _ part: CURLUPart, flags: UInt32 = 0) -> String? {
        var text: UnsafeMutablePointer<CChar>?
        guard curl_url_get(parsed, part, &text, flags) == CURLUE_OK, let text else { return nil }
        defer { curl_free(text) }
        return String(cString: text)
    }
}

/// A host and a port, as credentials are kept for them.
struct Endpoint: Hashable, Sendable {
    /// In lower case, an IPv6 address without its brackets.
    let host: String
    let port: Int

    init(host: String, port: Int) {
        var name = Substring(host)
        if name.hasPrefix("["), name.hasSuffix("]") { name = name.dropFirst().dropLast() }
        self.host = name.lowercased()
        self.port = port
    }
}

extension Character {
    /// Of a URL's scheme (RFC 3986 §3.1).
    var isSchemeCharacter: Bool { isASCII && (isLetter || isNumber || "+-.".contains(self)) }
}

extension StringProtocol {
    /// Where `other` first stands; Foundation has it, and the standard library only with its regular expressions.
    func firstRange(of other: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(other) { return start..<index(start, offsetBy: other.count) }
            start = index(after: start)
        }
        return nil
    }

    func contains(_ other: String) -> Bool { firstRange(of: other) != nil }
}
