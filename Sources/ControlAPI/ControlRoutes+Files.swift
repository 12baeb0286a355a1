internal import ControlModel
internal import HTTPTypes
internal import Hummingbird

/// Files and directories of flists: GET and HEAD, and what WebDAV needs to read.
extension ControlRoutes {
    /// Methods that would change something: none does here.
    private static let writing = ["PUT", "POST", "PATCH", "DELETE", "MKCOL", "COPY", "MOVE", "PROPPATCH", "LOCK", "UNLOCK"]

    static func addFiles(to router: Router<BasicRequestContext>, node: any NodeControl) {
        for path in ["/v1/flists/:name/files", "/v1/flists/:name/files/**"].map({ RouterPath($0) }) {
            for method in [HTTPRequest.Method.get, .head] {
                router.on(path, method: method) { request, _ in try await reporting { try await read(request, node) } }
            }
            router.on(path, method: .options) { _, _ in DAVAnswer.options() }
            for name in ["PROPFIND"] + writing {
                guard let method = HTTPRequest.Method(name) else { continue }
                router.on(path, method: method) { request, _ in
                    guard name == "PROPFIND" else { return DAVAnswer.readOnly() }
                    return try await reporting { try await DAVAnswer.find(request, node) }
                }
            }
        }
    }

    private static func read(_ request: Request, _ node: any NodeControl) async throws -> Response {
        let place = try FilesPath(request)
        switch try await node.entry(place.flist, path: place.path) {
        case .file(let file): return try await FileAnswer.make(file, type: ContentType.of(place.path), request: request)
        case .directory(let directory):
            // Who takes nothing but a file's bytes gets no page instead.
            if request.headers[.accept] == "application/octet-stream" {
                return try await FileAnswer.make(
                    try await node.file(place.flist, path: place.path), type: ContentType.of(place.path), request: request)
            }
            if request.method == .get, wantsJSON(request) {
                let after = request.uri.queryParameters["after"].flatMap { Int64($0) }
                var listing = json(
                    try await node.tree(
                        place.flist, path: place.endsWithSlash ? place.path : place.path + [UInt8(ascii: "/")], after: after))
                listing.headers[.vary] = "Accept"
                return listing
            }
            // The page's links are relative to the directory, and so need the slash.
            guard request.uri.path.hasSuffix("/") else {
                return Response(status: .movedPermanently, headers: [.location: place.directoryURL])
            }
            return DirectoryIndex.make(directory, at: place, request: request)
        }
    }

    /// Programs that name it and no HTML; browsers name HTML, most others name nothing.
    private static func wantsJSON(_ request: Request) -> Bool {
        guard let accept = request.headers[.accept]?.lowercased() else { return false }
        return accept.contains("application/json") && !accept.contains("text/html")
    }
}
