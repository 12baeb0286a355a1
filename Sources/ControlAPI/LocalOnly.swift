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
        if let refusal = Self.refusal(request.head) { return refusal }
        var response = try await next(request, context)
        Self.guardContent(&response.headers)
        return response
    }

    /// Why the request is not answered.
    static func refusal(_ head: HTTPRequest) -> Response? {
        let authority = head.authority ?? ""
        guard isAddress(authority) else {
            return answer(.forbidden, "the API is reached by address or as localhost, not as \(authority)")
        }
        if let origin = head.headerFields[.origin], origin != "http://\(authority)" {
            return answer(.forbidden, "pages of other origins may not use the API")
        }
        // Images and links of a page come without an origin, but browsers say from where they were asked for.
        if let place = head.headerFields[fetchSite], place != "same-origin", place != "none" {
            return answer(.forbidden, "pages of other origins may not use the API")
        }
        return nil
    }

    /// Content of flists comes from here too: a browser shall neither guess what it is nor run it with this origin's rights.
    static func guardContent(_ headers: inout HTTPFields) {
        headers[contentTypeOptions] = "nosniff"
        // Pages of this API's own making say themselves what they may.
        if headers[.contentSecurityPolicy] == nil { headers[.contentSecurityPolicy] = "default-src 'none'; sandbox" }
        headers[frameOptions] = "DENY"
    }

    private static var fetchSite: HTTPField.Name { HTTPField.Name("Sec-Fetch-Site")! }
    private static var contentTypeOptions: HTTPField.Name { .xContentTypeOptions }
    private static var frameOptions: HTTPField.Name { HTTPField.Name("X-Frame-Options")! }

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
