internal import ChunkModel
internal import ControlModel
internal import Hummingbird
internal import NIOCore

/// A file of an flist over HTTP: whole, one range, or just its head.
enum FileAnswer {
    static func make(_ file: any ServedFile, request: Request) -> Response {
        let tag = "\"\(file.entityTag)\""
        let modified = HTTPDate.format(file.mtime)
        var headers: HTTPFields = [.eTag: tag, .lastModified: modified, .acceptRanges: "bytes", .contentType: "application/octet-stream"]
        if let known = request.headers[.ifNoneMatch] {
            if known == "*"
                || known.split(separator: ",").contains(where: { $0.drop { $0 == " " || $0 == "W" || $0 == "/" }.prefix(tag.count) == tag })
            {
                return Response(status: .notModified, headers: headers)
            }
        } else if request.headers[.ifModifiedSince] == modified {
            return Response(status: .notModified, headers: headers)
        }
        var header = request.headers[.range]
        if let condition = request.headers[.ifRange], condition != tag, condition != modified { header = nil }
        switch ByteRange(header: header, size: file.size) {
        case .unsatisfiable:
            headers[.contentRange] = "bytes */\(file.size)"
            return Response(status: .rangeNotSatisfiable, headers: headers)
        case .whole: return content(of: file, 0..<file.size, status: .ok, headers: headers, request: request)
        case .part(let range):
            headers[.contentRange] = "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(file.size)"
            return content(of: file, range, status: .partialContent, headers: headers, request: request)
        }
    }

    static func chunk(_ chunk: Chunk) -> Response {
        var buffer = ByteBufferAllocator().buffer(capacity: chunk.byteCount)
        chunk.buffer.withBytes { _ = buffer.writeBytes($0) }
        return Response(status: .ok, headers: [.contentType: "application/octet-stream"], body: .init(byteBuffer: buffer))
    }

    private static func content(
        of file: any ServedFile, _ range: Range<UInt64>, status: HTTPResponse.Status, headers: HTTPFields, request: Request
    ) -> Response {
        var headers = headers
        let count = range.upperBound - range.lowerBound
        headers[.contentLength] = "\(count)"
        guard request.method != .head, count > 0 else { return Response(status: status, headers: headers) }
        return Response(
            status: status, headers: headers,
            body: ResponseBody(contentLength: Int(clamping: count)) { writer in
                var offset = range.lowerBound
                while offset < range.upperBound {
                    let piece = try await file.read(at: offset, atMost: Int(clamping: range.upperBound - offset))
                    // An empty piece would never end; the connection is cut rather than the content faked.
                    guard !piece.range.isEmpty else { throw NodeError.unavailable("the file ended early") }
                    var buffer = ByteBufferAllocator().buffer(capacity: piece.range.count)
                    piece.buffer.withBytes { _ = buffer.writeBytes(UnsafeRawBufferPointer(rebasing: $0[piece.range])) }
                    try await writer.write(buffer)
                    offset += UInt64(piece.range.count)
                }
                try await writer.finish(nil)
            })
    }
}
