internal import ChunkModel

/// A store over HTTP that has one object for each chunk, at one place: what reading and asking have in common.
protocol ObjectStore: UpstreamStore, ChunkSink {
    var gate: UpstreamGate { get }

    /// Asks for the object of `id`, whose bytes go into `sink`.
    ///
    /// - Returns: `false` when the store has none, which was counted.
    func isThere(
        _ id: ChunkID, _ method: CurlRequest.Method, _ priority: FetchPriority, _ sink: any TransferSink
    ) async throws(AttemptFailure) -> Bool
}

extension ObjectStore {
    var label: String { gate.label }

    func noteBadContent() { gate.noteBadContent() }

    func fetch(_ id: ChunkID, priority: FetchPriority, pool: ChunkBufferPool) async throws(UpstreamError) -> ChunkBuffer {
        let buffer = try await gate.run(priority) { () async throws(AttemptFailure) -> ChunkBuffer in
            let sink = ChunkBody(pool: pool)
            guard try await isThere(id, .get, priority, sink) else { throw AttemptFailure(.missing) }
            return sink.buffer
        }
        gate.counters.add { $0.chunks += 1 }
        return buffer
    }

    /// Asks with HEAD.
    func contains(_ id: ChunkID) async throws -> Bool {
        try await gate.run(.prefetch) { () async throws(AttemptFailure) in try await isThere(id, .head, .prefetch, NoBody()) }
    }
}
