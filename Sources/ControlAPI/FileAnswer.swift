internal import ChunkModel
internal import ControlModel
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

/// A file of an flist over HTTP: whole, ranges of it, or just its head.
struct FileAnswer {
    private(set) var status = HTTPResponse.Status.ok
    private(set) var headers: HTTPFields
    /// Content that follows the head.
    private(set) var body: FileBody?
    /// In place of a file's content.
    private var reason: String?

    /// - Throws: `NodeError` for what the file cannot give, unless the head is sent before that shows.
    static func make(_ file: any ServedFile, type: String = ContentType.unknown, request: Request) async throws -> Response {
        let answer = FileAnswer(file, type: type, to: request.head)
        guard let body = answer.body else { return answer.response }
        do {
            return Response(status: answer.status, headers: answer.headers, body: try await body.complete())
        } catch let error where !(error is NodeError || error is CancellationError) {
            throw NodeError.unavailable("\(error)")
        }
    }

    /// - Parameter type: its content type.
    init(_ file: any ServedFile, type: String, to request: HTTPRequest) {
        let tag = "\"\(file.entityTag)\""
        let modified = HTTPDate.shown(file.mtime)
        headers = [.eTag: tag, .lastModified: HTTPDate.format(modified), .acceptRanges: "bytes"]
        switch Precondition(request.headerFields, method: request.method, tag: tag, modified: modified) {
        case .notModified:
            status = .notModified
            return
        case .failed:
            (status, reason) = (.preconditionFailed, "the file is not, or no longer, the one that the request is about")
            return
        case .proceed: break
        }
        headers[.contentType] = type
        var header = request.headerFields[.range]
        // Ranges are of GET only (RFC 9110 §14.2).
        if request.method != .get { header = nil }
        if let condition = request.headerFields[.ifRange], !Precondition.holds(ifRange: condition, tag: tag, modified: modified) {
            header = nil
        }
        var content: FileBody
        switch ByteRanges(header: header, size: file.size) {
        case .unsatisfiable:
            headers[.contentType] = nil
            headers[.contentRange] = "bytes */\(file.size)"
            status = .rangeNotSatisfiable
            return
        case .whole: content = FileBody(file, 0..<file.size)
        case .parts(let parts) where parts.count == 1:
            headers[.contentRange] = Self.contentRange(parts[0], file.size)
            (status, content) = (.partialContent, FileBody(file, parts[0]))
        case .parts(let parts):
            // Of 128 bits that nobody knows beforehand: it stands in no content.
            let boundary = "chunkmesh-\(UInt64.random(in: 0 ... .max))-\(UInt64.random(in: 0 ... .max))"
            headers[.contentType] = "multipart/byteranges; boundary=\(boundary)"
            (status, content) = (.partialContent, FileBody(file))
            for part in parts {
                content.add(
                    "\r\n--\(boundary)\r\nContent-Type: \(type)\r\nContent-Range: \(Self.contentRange(part, file.size))\r\n\r\n",
                    then: part)
            }
            content.add("\r\n--\(boundary)--\r\n", then: 0..<0)
        }
        headers[.contentLength] = "\(content.count)"
        if request.method != .head, content.count > 0 { body = content }
    }

    /// Where there is no content to follow.
    private var response: Response {
        if let reason { return answer(status, reason) }
        if status == .notModified { return Self.bare(status, headers) }
        return Response(status: status, headers: headers)
    }

    static func chunk(_ chunk: Chunk) -> Response {
        Response(
            status: .ok, headers: [.contentType: ContentType.unknown],
            body: .init(byteBuffer: SharedBytes.buffer(chunk.buffer, 0..<chunk.byteCount)))
    }

    private static func contentRange(_ range: Range<UInt64>, _ size: UInt64) -> String {
        "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(size)"
    }

    /// An answer whose head says nothing of a body: a length in it would be that of what is not sent.
    static func bare(_ status: HTTPResponse.Status, _ headers: HTTPFields) -> Response {
        var response = Response(status: status, headers: headers)
        response.headers[.contentLength] = nil
        return response
    }
}
