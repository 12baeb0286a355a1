internal import ChunkModel

/// `server://http://host[:port][/path][?token=T]`: rfs' own server (FORMATS.md §1.5).
struct BlockServerURL: Sendable {
    /// Without credentials and token.
    let label: String
    /// The server itself, with the credentials that stand in it.
    let base: UpstreamURL
    /// Given by the server upon sign-in; `nil` when the URL has none.
    let token: String?

    /// - Throws: `.unusable` with the reason.
    init(_ text: String) throws(UpstreamError) {
        let shown = UpstreamURL.label(of: text)
        let whole = text.prefix { $0 != "#" }
        let address = whole.prefix { $0 != "?" }
        guard address.lowercased().hasPrefix("server://http://") || address.lowercased().hasPrefix("server://https://") else {
            throw .unusable(line: "\(shown): a block server is written server://http://host:port")
        }
        do throws(UpstreamError) {
            base = try UpstreamURL(String(address.dropFirst("server://".count)))
        } catch {
            throw .unusable(line: "\(shown): a block server is written server://http://host:port")
        }
        label = "server://\(base.label)"
        let given = whole.dropFirst(address.count + 1).split(separator: "&").first { $0.hasPrefix("token=") }?.dropFirst("token=".count)
        if let given, !given.isEmpty {
            guard let token = PercentText.decoded(given), Self.isToken(token) else {
                throw .unusable(line: "\(shown): the token holds characters that no token has")
            }
            self.token = token
        } else {
            token = nil
        }
    }

    /// What may stand in an Authorization line (RFC 6750 §2.1).
    static func isToken(_ text: String) -> Bool {
        (1...UpstreamURL.maxBytes).contains(text.utf8.count) && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
    }
}
