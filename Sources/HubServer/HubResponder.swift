internal import Hummingbird
internal import Logging
internal import NIOCore
internal import NIOPosix

/// Answers one request of the hub.
struct HubResponder: HTTPResponder {
    /// Bytes read from a file at once, and so held for each connection.
    static let pieceBytes = 128 * 1024

    /// Without symbolic links.
    let root: String
    let files: NIOThreadPool

    func respond(to request: Request, context: BasicRequestContext) async throws -> Response {
        let response = await answer(request)
        context.logger.debug(
            "request",
            metadata: [
                "method": "\(request.method)", "path": "\(request.uri.path)", "status": "\(response.status.code)",
                "length": "\(response.headers[.contentLength] ?? "")",
            ])
        return response
    }

    private func answer(_ request: Request) async -> Response {
        guard request.method == .get || request.method == .head else {
            return Response(status: .methodNotAllowed, headers: [.allow: "GET, HEAD"])
        }
        guard let path = HubPath(request.uri.path) else { return Response(status: .notFound) }
        let opened = try? await files.runIfActive { [root] in HubFile.open(path.places, below: root) }
        guard let file = opened ?? nil else { return Response(status: .notFound) }

        var headers: HTTPFields = [:]
        let tag: String
        switch path {
        case .chunk(let hex):
            // The path names the content already: half of the id's half is enough, and the line is thin.
            tag = "\"\(hex.prefix(16))\""
            headers[.cacheControl] = "max-age=31536000, immutable"
        case .file:
            tag = file.entityTag
            headers[.lastModified] = file.lastModified
            headers[.contentType] = "application/octet-stream"
            // Of chunks it is as true; there the line is thin.
            headers[.acceptRanges] = "bytes"
        }
        headers[.eTag] = tag
        if isUnchanged(request, tag, headers[.lastModified]) {
            headers[.contentType] = nil
            // A length here would be that of the content, which is not sent.
            var response = Response(status: .notModified, headers: headers)
            response.headers[.contentLength] = nil
            return response
        }
        return content(of: file, request, tag, headers)
    }

    private func content(of file: HubFile, _ request: Request, _ tag: String, _ given: HTTPFields) -> Response {
        var headers = given
        let range = range(of: request, size: file.size, tag: tag, lastModified: headers[.lastModified])
        let part: Range<Int>
        var status = HTTPResponse.Status.ok
        switch range {
        case .whole: part = 0..<file.size
        case .part(let wanted):
            part = wanted
            status = .partialContent
            headers[.contentRange] = "bytes \(wanted.lowerBound)-\(wanted.upperBound - 1)/\(file.size)"
        case .unsatisfiable:
            headers[.contentRange] = "bytes */\(file.size)"
            headers[.contentType] = nil
            return Response(status: .rangeNotSatisfiable, headers: headers)
        }
        headers[.contentLength] = String(part.count)
        if request.method == .head || part.isEmpty { return Response(status: status, headers: headers) }
        let body = ResponseBody(contentLength: part.count) { [files] writer in
            var offset = part.lowerBound
            while offset < part.upperBound {
                let (start, length) = (offset, min(Self.pieceBytes, part.upperBound - offset))
                let piece = try await files.runIfActive {
                    var buffer = ByteBufferAllocator().buffer(capacity: length)
                    buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: length) {
                        file.read(into: UnsafeMutableRawBufferPointer(rebasing: $0[..<length]), at: start)
                    }
                    return buffer
                }
                // The file became shorter: closing the connection early is the only way left to say so.
                guard piece.readableBytes > 0 else { throw HubServerError("a file became shorter while it was sent") }
                offset += piece.readableBytes
                try await writer.write(piece)
            }
            try await writer.finish(nil)
        }
        return Response(status: status, headers: headers, body: body)
    }

    /// RFC 9110 §13.2.2: If-None-Match first, If-Modified-Since only without it. Of the latter only the very date that was sent
    /// is known; any other gets the content.
    private func isUnchanged(_ request: Request, _ tag: String, _ lastModified: String?) -> Bool {
        if let tags = request.headers[.ifNoneMatch] {
            return tags.split(separator: ",").contains {
                var known = $0.drop { $0 == " " }
                if known.hasPrefix("W/") { known = known.dropFirst(2) }
                while known.last == " " { known.removeLast() }
                return known == "*" || known == tag
            }
        }
        return lastModified != nil && request.headers[.ifModifiedSince] == lastModified
    }

    private func range(of request: Request, size: Int, tag: String, lastModified: String?) -> ByteRange {
        guard request.method == .get else { return .whole }
        if let condition = request.headers[.ifRange], condition != tag, condition != lastModified { return .whole }
        return ByteRange(header: request.headers[.range], size: size)
    }
}
