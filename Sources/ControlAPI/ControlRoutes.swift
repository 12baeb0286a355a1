internal import ChunkModel
internal import ControlModel
internal import HTTPTypes
internal import Hummingbird

/// The paths of the API (INTERFACE.md, HTTP).
enum ControlRoutes {
    /// The longest that one request waits for a job's end.
    static let maxWaitSeconds = 30.0
    /// A prefetch may name the chunks of a profile: `ReadProfile.maxEntries` of 67 bytes, and the rest.
    static let maxPrefetchBytes = 10 << 20

    /// - Parameter isLocal: only users of this machine can reach it.
    static func router(for node: any NodeControl, isLocal: Bool) -> Router<BasicRequestContext> {
        let router = Router(context: BasicRequestContext.self)
        router.add(middleware: LocalOnly())
        router.get("/") { _, _ in Dashboard.answer() }
        router.get("/healthz") { _, _ in text("ok\n", type: "text/plain") }
        router.get("/readyz") { _, _ in
            if let reason = await node.notReady() { return text(reason + "\n", type: "text/plain", status: .serviceUnavailable) }
            return text("ready\n", type: "text/plain")
        }
        router.get("/metrics") { _, _ in text(await node.metrics(), type: "text/plain; version=0.0.4") }
        router.get("/v1/stats") { _, _ in json(await node.stats()) }
        router.get("/v1/peers") { _, _ in json(await node.peers()) }
        router.get("/v1/status") { request, _ in
            try await reporting { json(try await node.status(of: query("flist", of: request))) }
        }
        router.post("/v1/prefetch") { request, _ in
            try await reporting { json(try await node.prefetch(try await body(of: request, upTo: maxPrefetchBytes)), status: .accepted) }
        }
        router.get("/v1/jobs/:id") { request, context in
            try await reporting {
                let wait = query("wait", of: request).flatMap(Double.init) ?? 0
                return json(try await node.job(try context.parameters.require("id"), wait: .seconds(min(max(wait, 0), maxWaitSeconds))))
            }
        }
        router.delete("/v1/jobs/:id") { _, context in
            try await reporting { json(try await node.cancelJob(try context.parameters.require("id"))) }
        }
        router.get("/v1/line") { _, _ in json(await node.line()) }
        router.post("/v1/line") { request, _ in try await reporting { json(try await node.setLine(try await body(of: request))) } }
        router.post("/v1/cache/verify") { _, _ in try await reporting { json(try await node.verifyCache()) } }
        router.post("/v1/cache/gc") { _, _ in try await reporting { json(try await node.collectGarbage()) } }
        CarryAnswer.add(to: router, node: node)
        addFlists(to: router, node: node)
        addFiles(to: router, node: node)
        addTraces(to: router, node: node)
        addKeys(to: router, node: node, isLocal: isLocal)
        return router
    }

    private static func addFlists(to router: Router<BasicRequestContext>, node: any NodeControl) {
        router.post("/v1/flists") { request, _ in
            try await reporting { json(try await node.open(try await body(of: request, as: OpenRequest.self).flist)) }
        }
        router.delete("/v1/flists/:name") { request, _ in try await reporting { json(try await node.forget(try name(in: request))) } }
        router.post("/v1/flists/:name/pin") { request, _ in
            try await reporting { json(try await node.setPinned(try name(in: request), true)) }
        }
        router.post("/v1/flists/:name/unpin") { request, _ in
            try await reporting { json(try await node.setPinned(try name(in: request), false)) }
        }
        router.post("/v1/flists/:name/unkeep") { request, _ in
            try await reporting { json(try await node.unkeep(try name(in: request))) }
        }
        router.post("/v1/flists/:name/verify") { request, _ in
            try await reporting {
                guard let place = VerifyPlace(rawValue: query("on", of: request) ?? "node") else {
                    throw NodeError.badRequest("on is one of node, site, hub")
                }
                return json(try await node.verify(try name(in: request), on: place))
            }
        }
        for path in ["/v1/flists/:name/tree", "/v1/flists/:name/tree/**"] {
            router.get(RouterPath(path)) { request, _ in
                try await reporting {
                    let after = query("after", of: request).flatMap { Int64($0) }
                    let place = try FilesPath(request)
                    return json(try await node.tree(place.flist, path: place.path, after: after))
                }
            }
        }
        router.get("/v1/flists/:name/image") { request, _ in
            try await reporting { try await FileAnswer.make(try await node.image(try name(in: request)), request: request) }
        }
        router.get("/v1/flists/:name/signature") { request, _ in
            try await reporting { octets(try await node.signature(try name(in: request)), type: "text/plain") }
        }
        router.get("/v1/flists/:name/chunks/:id") { request, context in
            try await reporting {
                guard let id = ChunkID(hex: try context.parameters.require("id")) else {
                    throw NodeError.badRequest("a chunk id has 32 or 64 hex digits")
                }
                return FileAnswer.chunk(try await node.chunk(try name(in: request), id: id))
            }
        }
    }

    private static func name(in request: Request) throws(NodeError) -> String { try FilesPath.name(in: request.uri.path) }

    private static func query(_ key: String, of request: Request) -> String? {
        request.uri.queryParameters[Substring(key)].map(String.init)
    }
}
