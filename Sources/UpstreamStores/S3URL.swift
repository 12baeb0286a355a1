internal import CCurl

/// `s3://[access:secret@]host[:port]/bucket[/prefix][?region=R]`, or `s3s://` for TLS, taken apart by libcurl's parser.
struct S3URL: Sendable {
    /// Where neither the URL, the host's name nor the environment says another one. Most servers that are not AWS take any.
    static let defaultRegion = "us-east-1"

    /// The URL without keys and query.
    let label: String
    let endpoint: Endpoint
    let bucket: String
    /// `http(s)://host[:port]/bucket[/prefix]`, addressed by path.
    let base: String
    /// `nil` when the URL has none.
    let keys: Credential?
    let region: String?
    /// The one that stands in the URL.
    let writtenRegion: String?

    /// - Throws: `.unusable` with the reason.
    init(_ text: String) throws(UpstreamError) {
        let shown = UpstreamURL.label(of: text)
        func unusable(_ reason: String) -> UpstreamError { .unusable(line: "\(shown): \(reason)") }
        guard text.utf8.count <= UpstreamURL.maxBytes, !text.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7f }), let parsed = curl_url()
        else {
            throw unusable("not a URL")
        }
        defer { curl_url_cleanup(parsed) }
        // CURLU_NON_SUPPORT_SCHEME, CURLU_URLDECODE
        let (anyScheme, decoded): (UInt32, UInt32) = (1 << 3, 1 << 6)
        let query = text.prefix { $0 != "#" }.split(separator: "?", maxSplits: 1).dropFirst().first
        let path = text.prefix { $0 != "#" && $0 != "?" }
        guard curl_url_set(parsed, CURLUPART_URL, text, anyScheme) == CURLUE_OK, let scheme = UpstreamURL.part(parsed, CURLUPART_SCHEME),
            let host = UpstreamURL.part(parsed, CURLUPART_HOST), !host.isEmpty
        else {
            // What follows the first slash is no authority.
            throw unusable(
                path.contains("@")
                    ? "not a URL; in the keys write / as %2F, + as %2B, @ as %40 and : as %3A" : "write s3://host:port/bucket")
        }
        guard host.utf8.allSatisfy({ $0 < 0x80 }) else { throw unusable("its host has letters outside ASCII; write it as xn--…") }
        let isTLS = scheme == "s3s"
        let port = UpstreamURL.part(parsed, CURLUPART_PORT).flatMap { Int($0) }
        endpoint = Endpoint(host: host, port: port ?? (isTLS ? 443 : 80))
        let place = UpstreamURL.part(parsed, CURLUPART_PATH) ?? ""
        guard !place.contains("@") else { throw unusable("in the keys write / as %2F, + as %2B, @ as %40 and : as %3A") }
        let parts = place.split(separator: "/")
        guard let bucket = parts.first, parts.allSatisfy(Self.isPlain) else {
            throw unusable("write s3://host:port/bucket, the bucket's name of letters, digits, dots, dashes and underscores")
        }
        self.bucket = String(bucket)
        let authority = port.map { "\(host):\($0)" } ?? host
        let name = "\(authority)/\(parts.joined(separator: "/"))"
        base = (isTLS ? "https://" : "http://") + name
        label = "\(scheme)://\(name)"
        if let user = UpstreamURL.part(parsed, CURLUPART_USER, flags: decoded), !user.isEmpty {
            guard let secret = UpstreamURL.part(parsed, CURLUPART_PASSWORD, flags: decoded), !secret.isEmpty else {
                throw unusable("the access key has no secret; write s3://access:secret@host/bucket")
            }
            keys = Credential(user: user, password: secret)
        } else {
            keys = nil
        }
        let given = query?.split(separator: "&").first { $0.hasPrefix("region=") }.map { String($0.dropFirst("region=".count)) }
        if let given, !given.isEmpty {
            guard Self.isRegion(given) else { throw unusable("region takes letters, digits and dashes") }
            (region, writtenRegion) = (given, given)
        } else {
            (region, writtenRegion) = (Self.region(ofHost: endpoint.host), nil)
        }
    }

    static func isRegion(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count) && text.utf8.allSatisfy { isWord($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") }
    }

    /// AWS names the region in the host: `s3.eu-central-1.amazonaws.com`.
    private static func region(ofHost host: String) -> String? {
        let parts = host.split(separator: ".")
        guard parts.count >= 4, parts[0] == "s3", parts[2] == "amazonaws", isRegion(String(parts[1])) else { return nil }
        return String(parts[1])
    }

    /// What needs no escapes in a path, and so is signed as it is sent.
    private static func isPlain(_ part: Substring) -> Bool {
        part != "." && part != ".." && part.utf8.count <= 255
            && part.utf8.allSatisfy { isWord($0) || [UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_")].contains($0) }
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
            || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
}
