internal import ControlModel
internal import Hummingbird

/// Mesh keys and identities: only for who is on the node's own machine, by the Unix socket or a port bound to loopback.
extension ControlRoutes {
    static func addKeys(to router: Router<BasicRequestContext>, node: any NodeControl, isLocal: Bool) {
        router.get("/v1/keys") { _, _ in try await forLocals(isLocal) { json(try await node.meshKeys()) } }
        router.post("/v1/keys/rotate") { request, _ in
            try await forLocals(isLocal) { json(try await node.rotateKeys(try await body(of: request))) }
        }
        router.get("/v1/keys/revoked") { _, _ in try await forLocals(isLocal) { json(try await node.revoked()) } }
        router.post("/v1/keys/revoke") { request, _ in
            try await forLocals(isLocal) { json(try await node.revoke(try await body(of: request))) }
        }
        router.delete("/v1/keys/revoked/:node") { _, context in
            try await forLocals(isLocal) { json(try await node.restore(try context.parameters.require("node"))) }
        }
    }

    private static func forLocals(_ isLocal: Bool, _ body: () async throws -> Response) async throws -> Response {
        guard isLocal else {
            return answer(.forbidden, "keys are managed on the node's own machine only: use its Unix socket (api.socket)")
        }
        return try await reporting(body)
    }
}
