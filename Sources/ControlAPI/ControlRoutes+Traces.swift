internal import ControlModel
internal import Hummingbird

/// Traces of what is read.
extension ControlRoutes {
    static func addTraces(to router: Router<BasicRequestContext>, node: any NodeControl) {
        router.get("/v1/traces") { _, _ in json(await node.traces()) }
        router.post("/v1/traces") { request, _ in
            try await reporting { json(try await node.startTrace(try await body(of: request)), status: .created) }
        }
        router.get("/v1/traces/:id") { request, context in
            try await reporting {
                json(try await node.trace(try context.parameters.require("id"), after: after(request), wait: wait(request)))
            }
        }
        router.delete("/v1/traces/:id") { request, context in
            try await reporting { json(try await node.endTrace(try context.parameters.require("id"), after: after(request))) }
        }
    }

    private static func after(_ request: Request) -> Int { request.uri.queryParameters["after"].flatMap { Int($0) } ?? 0 }

    private static func wait(_ request: Request) -> Duration {
        .seconds(min(max(request.uri.queryParameters["wait"].flatMap { Double($0) } ?? 0, 0), maxWaitSeconds))
    }
}
