internal import ChunkModel
internal import ControlModel
internal import Hummingbird
internal import NIOCore

/// A file of an flist over HTTP: whole, ranges of it, or just its head.
enum FileAnswer {
    /// - Parameter type: its content type.
    static func make(_ file: any ServedFile, type: String = ContentType.unknown, request: Request) -> Response {
        let tag = "\"\(file.entityTag)\""
        let modified = HTTPDate.shown(file.mtime)
        var headers: HTTPFields = [.eTag: tag, .lastModified: HTTPDate.format(modified), .acceptRanges: "bytes"]
        switch Precondition(request.headers, method: request.method, tag: tag, modified: modified) {
        case .notModified: return bare(.notModified, headers)
        case .failed: return answer(.preconditionFailed, "the file is not, or no longer, the one that the request is about")
        case .proceed: break
        }
        headers[.contentType] = type
        var header = request.headers[.range]
        // Ranges are of GET only (RFC 9110 §14.2).
        if request.method != .get { header = nil }
        if let condition = request.headers[.ifRange], !Precondition.holds(ifRange: condition, tag: tag, modified: modified) { header = nil }
        switch ByteRanges(header: header, size: file.size) {
        case .unsatisfiable:
            headers[.contentType] = nil
            headers[.contentRange] = "bytes */\(file.size)"
            return Response(status: .rangeNotSatisfiable, headers: headers)
        case .whole: return content(FileBody(file, 0..<file.size), .ok, headers, request)
        case .parts(let parts) where parts.count == 1:
            headers[.contentRange] = contentRange(parts[0], file.size)
            return content(FileBody(file, parts[0]), .partialContent, headers, request)
        case .parts(let parts):
            // Of 128 bits that nobody knows beforehand: it stands in no content.
            let boundary = "chunkmesh-\(UInt64.random(in: 0 ... .max))-\(UInt64.random(in: 0 ... .max))"
            headers[.contentType] = "multipart/byteranges; boundary=\(boundary)"
            var body = FileBody(file)
            for part in parts {
                body.add(
                    "\r\n--\(boundary)\r\nContent-Type: \(type)\r\nContent-Range: \(contentRange(part, file.size))\r\n\r\n", then: part)
            }
            body.add("\r\n--\(boundary)--\r\n", then: 0..<0)
            return content(body, .partialContent, headers, request)
        }
    }

    static func chunk(_ chunk: Chunk) -> Response {
        Response(
            status: .ok, headers: [.contentType: ContentType.unknown],
            body: .init(byteBuffer: SharedBytes.buffer(chunk.buffer, 0..<chunk.byteCount)))
    }

    private static func contentRange(_ range: Range<UInt64>, _ size: UInt64) -> String {
        "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(size)"
    }

    private static func content(_ body: FileBody, _ status: HTTPResponse.Status, _ headers: HTTPFields, _ request: Request) -> Response {
        var headers = headers
        headers[.contentLength] = "\(body.count)"
        guard request.method != .head, body.count > 0 else { return Response(status: status, headers: headers) }
        return Response(status: status, headers: headers, body: body.body)
    }

    /// An answer whose head says nothing of a body: a length in it would be that of what is not sent.
    static func bare(_ status: HTTPResponse.Status, _ headers: HTTPFields) -> Response {
        var response = Response(status: status, headers: headers)
        response.headers[.contentLength] = nil
        return response
    }
}
