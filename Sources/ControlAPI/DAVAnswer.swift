internal import ControlModel
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// WebDAV (RFC 4918) as far as reading needs it: class 1 without the methods that write.
enum DAVAnswer {
    /// Bytes of a request's body; longer ones are refused.
    static let maxBodyBytes = 16 << 10
    private static let allow = "OPTIONS, GET, HEAD, PROPFIND"

    static func options() -> Response {
        var headers: HTTPFields = [.allow: allow]
        for (name, value) in [("DAV", "1"), ("MS-Author-Via", "DAV")] {
            if let name = HTTPField.Name(name) { headers[name] = value }
        }
        return Response(status: .ok, headers: headers)
    }

    static func readOnly() -> Response {
        var response = answer(.methodNotAllowed, "flists are read only: nothing in them can be written, moved, removed or locked")
        response.headers[.allow] = allow
        return response
    }

    static func find(_ request: Request, _ node: any NodeControl) async throws -> Response {
        let place = try FilesPath(request)
        let depth = HTTPField.Name("Depth").flatMap { request.headers[$0] } ?? "infinity"
        guard depth == "0" || depth == "1" else {
            guard depth.lowercased() == "infinity" else { throw NodeError.badRequest("Depth is 0, 1 or infinity") }
            // Whole trees in one answer: clients that can walk do so (RFC 4918 §9.1.1).
            return xml("<D:error xmlns:D=\"DAV:\"><D:propfind-finite-depth/></D:error>", .forbidden)
        }
        var request = request
        guard let body = try? await request.collectBody(upTo: maxBodyBytes) else {
            throw NodeError.badRequest("the body is larger than \(maxBodyBytes) bytes")
        }
        let wanted: DAVProperties
        do throws(XMLError) {
            wanted = try DAVProperties(Array(body.readableBytesView))
        } catch {
            throw NodeError.badRequest("the body is no PROPFIND: \(error.reason)")
        }
        switch try await node.entry(place.flist, path: place.path) {
        case .file(let file):
            let entry = DAVEntry(
                href: place.url, name: place.path.split(separator: UInt8(ascii: "/")).last.map { Array($0) } ?? [], file: file)
            return multistatus(entry, wanted, children: nil, below: "")
        case .directory(let directory):
            let name = place.path.split(separator: UInt8(ascii: "/")).last.map { Array($0) } ?? Array(place.flist.utf8)
            let entry = DAVEntry(href: place.directoryURL, name: name, modified: directory.mtime)
            return multistatus(entry, wanted, children: depth == "1" ? directory.listing() : nil, below: place.directoryURL)
        }
    }

    /// Written while the directory is read.
    private static func multistatus(
        _ entry: DAVEntry, _ wanted: DAVProperties, children: (any ServedListing)?, below base: String
    ) -> Response {
        var response = Response(
            status: HTTPResponse.Status(code: 207, reasonPhrase: "Multi-Status"), headers: [.contentType: "application/xml; charset=utf-8"],
            body: ResponseBody { writer in
                try await writer.write(
                    ByteBuffer(
                        string: "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\">\n" + wanted.answer(for: entry)
                    ))
                while let page = try await children?.next() {
                    var buffer = ByteBufferAllocator().buffer(capacity: page.count * 512)
                    for child in page {
                        if let entry = DAVEntry(child, below: base) { buffer.writeString(wanted.answer(for: entry)) }
                    }
                    try await writer.write(buffer)
                }
                try await writer.write(ByteBuffer(string: "</D:multistatus>\n"))
                try await writer.finish(nil)
            })
        response.headers[.contentLength] = nil
        return response
    }

    private static func xml(_ text: String, _ status: HTTPResponse.Status) -> Response {
        Response(
            status: status, headers: [.contentType: "application/xml; charset=utf-8"],
            body: .init(byteBuffer: ByteBuffer(string: "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n" + text + "\n")))
    }
}
