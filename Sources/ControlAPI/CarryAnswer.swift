internal import ChunkModel
internal import ControlModel
internal import Hummingbird
internal import NIOCore

/// Carried files over HTTP: as they are made, and as they come.
enum CarryAnswer {
    /// Flists that one request names.
    static let maxFlists = 256

    static func add(to router: Router<BasicRequestContext>, node: any NodeControl) {
        router.get("/v1/cache/export") { request, _ in
            try await reporting {
                let names = request.uri.queryParameters.filter { $0.key == "flist" }.map { String($0.value) }
                guard names.count <= maxFlists else { throw NodeError.badRequest("more than \(maxFlists) flists are named") }
                return content(of: try await node.exportCache(names))
            }
        }
        router.post("/v1/cache/import") { request, _ in
            try await reporting { json(await taken(from: request.body, by: try await node.importCache())) }
        }
    }

    private static func content(of file: any CacheExport) -> Response {
        Response(
            status: .ok, headers: [.contentType: "application/octet-stream"],
            body: ResponseBody { writer in
                while let piece = try await file.next() {
                    var buffer = ByteBufferAllocator().buffer(capacity: piece.count)
                    piece.withBytes { _ = buffer.writeBytes($0) }
                    try await writer.write(buffer)
                }
                try await writer.finish(nil)
            })
    }

    /// Takes the body to its end, also behind the place where the file is damaged: an answer before that would be lost.
    private static func taken(from body: RequestBody, by file: any CacheImport) async -> CacheImportReport {
        var isWanted = true
        do {
            for try await buffer in body where isWanted {
                isWanted = await file.take(ChunkBuffer(copying: buffer.readableBytesView))
            }
        } catch {
            // The sender has gone; what came whole stays.
        }
        return await file.finish()
    }
}
