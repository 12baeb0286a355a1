internal import CCurl

/// The base URL of an HTTP store, taken apart by libcurl's own parser, so that both agree on the host.
struct UpstreamURL: Sendable {
    /// Longer ones are refused.
    static let maxBytes = 2_048

    let scheme: String
    /// Without user name and password.
    let label: String
    /// What stands before the path of a chunk, with credentials, without a slash at the end.
    private let base: String
    /// "?…" or nothing.
    private let query: String

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
        self.scheme = scheme
        query = Self.part(parsed, CURLUPART_QUERY).map { "?\($0)" } ?? ""
        curl_url_set(parsed, CURLUPART_FRAGMENT, nil, 0)
        curl_url_set(parsed, CURLUPART_QUERY, nil, 0)
        base = Self.withoutSlash(Self.part(parsed, CURLUPART_URL) ?? "")
        curl_url_set(parsed, CURLUPART_USER, nil, 0)
        curl_url_set(parsed, CURLUPART_PASSWORD, nil, 0)
        label = Self.withoutSlash(Self.part(parsed, CURLUPART_URL) ?? "")
    }

    /// The URL of `name` below the base.
    func url(of name: String) -> String { "\(base)/\(name)\(query)" }

    /// `text` without what may be a password, cut to a length that fits a log line, whether it is a URL or not.
    static func label(of text: String) -> String {
        var text = text
        if let scheme = text.firstRange(of: "://") {
            let rest = text[scheme.upperBound...]
            let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
            if let at = authority.lastIndex(of: "@") { text = String(text[..<scheme.upperBound] + rest[rest.index(after: at)...]) }
        }
        let printable = text.unicodeScalars.prefix(160).map { $0.value < 0x20 || $0.value == 0x7f ? "?" : Character($0) }
        return String(printable)
    }

    private static func withoutSlash(_ text: String) -> String {
        String(text[..<(text.lastIndex { $0 != "/" }.map { text.index(after: $0) } ?? text.startIndex)])
    }

    private static func part(_ parsed: OpaquePointer, _ part: CURLUPart) -> String? {
        var text: UnsafeMutablePointer<CChar>?
        guard curl_url_get(parsed, part, &text, 0) == CURLUE_OK, let text else { return nil }
        defer { curl_free(text) }
        return String(cString: text)
    }
}

extension String {
    /// Where `other` first stands; Foundation has it, and the standard library only with its regular expressions.
    fileprivate func firstRange(of other: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(other) { return start..<index(start, offsetBy: other.count) }
            start = index(after: start)
        }
        return nil
    }
}
