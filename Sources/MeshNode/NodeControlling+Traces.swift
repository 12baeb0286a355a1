internal import ChunkModel
public import ControlModel

/// The node as its API sees it: traces.
extension MeshNode {
    /// Between two looks for something new, while somebody waits for it.
    private static let traceLook: Duration = .milliseconds(20)

    public func startTrace(_ request: TraceRequest) async throws(NodeError) -> Trace {
        let entry = try await reporting { try await self.opener.open(request.flist) }
        return try readTraces.start(entry, id: Hex.encode(Sodium.randomBytes(6)))
    }

    public func trace(_ id: String, after: Int, wait: Duration) async throws(NodeError) -> Trace {
        let end = parts.clock.now + wait
        while true {
            guard let trace = readTraces.look(id, after: after) else { throw .notFound("no trace has the id \(id)") }
            if !trace.entries.isEmpty || trace.ended != nil || parts.clock.now >= end || Task.isCancelled { return trace }
            try? await Task.sleep(for: min(Self.traceLook, max(end - parts.clock.now, .milliseconds(1))))
        }
    }

    public func endTrace(_ id: String, after: Int) async throws(NodeError) -> Trace {
        guard let trace = readTraces.end(id, after: after) else { throw .notFound("no trace has the id \(id)") }
        return trace
    }

    public func traces() async -> TraceList { TraceList(traces: readTraces.all) }
}
