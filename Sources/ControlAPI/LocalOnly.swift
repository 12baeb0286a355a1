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
        return try await next(request, context)
    }

    static func isAddress(_ authority: String) -> Bool {
        if authority.hasPrefix("[") { return authority.contains("]") }
        let host = authority.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).first ?? ""
        if host.isEmpty || host == "localhost" { return true }
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
    }
}
