internal import HTTPTypes
internal import Hummingbird

/// Keeps web pages out: a browser on this machine must not be a way for a foreign page to reach the API.
///
/// Requests must name an address or `localhost` as host (a name that was bent to 127.0.0.1 is refused), and may not come from a
/// page of another origin.
struct LocalOnly<Context: RequestContext>: RouterMiddleware {
    func handle(
        _ request: Request, context: Context, next: @concurrent (Request, Context) async throws -> Response
    ) async throws -> Response {
        let authority = request.head.authority ?? ""
        guard Self.isAddress(authority) else {
            return answer(.forbidden, "the API is reached by address or as localhost, not as \(authority)")
        }
        if let origin = request.headers[.origin], origin != "http://\(authority)" {
            return answer(.forbidden, "pages of other origins may not use the API")
        }
        // Images and links of a page come without an origin, but browsers say from where they were asked for.
        if let name = HTTPField.Name("Sec-Fetch-Site"), let place = request.headers[name], place != "same-origin", place != "none" {
            return answer(.forbidden, "pages of other origins may not use the API")
        }
        var response = try await next(request, context)
        // Content of flists comes from here too: a browser shall neither guess what it is nor run it with this origin's rights.
        if let name = HTTPField.Name("X-Content-Type-Options") { response.headers[name] = "nosniff" }
        // Pages of this API's own making say themselves what they may.
        if response.headers[.contentSecurityPolicy] == nil { response.headers[.contentSecurityPolicy] = "default-src 'none'; sandbox" }
        if let name = HTTPField.Name("X-Frame-Options") { response.headers[name] = "DENY" }
        return response
    }

    /// Whether what listens at `host` is reached from this machine only.
    static func isLoopback(_ host: String) -> Bool { host == "localhost" || host == "::1" || host.hasPrefix("127.") && isAddress(host) }

    static func isAddress(_ authority: String) -> Bool {
        if authority.hasPrefix("[") {
            // The digits of an IPv6 address, and a port at most.
            guard let end = authority.firstIndex(of: "]") else { return false }
            let rest = authority[authority.index(after: end)...]
            let inner = authority[authority.index(after: authority.startIndex)..<end]
            return !inner.isEmpty && inner.utf8.allSatisfy { $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ".") || Self.isHexDigit($0) }
                && (rest.isEmpty || rest.hasPrefix(":") && UInt16(rest.dropFirst()) != nil)
        }
        let host = authority.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).first ?? ""
        if host.isEmpty || host == "localhost" { return true }
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
    }

    private static func isHexDigit(_ c: UInt8) -> Bool {
        switch c {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"): true
        default: false
        }
    }
}
