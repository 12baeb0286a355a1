public import ChunkModel

/// Chunks in a zdb, an ardb or a redis: the value under the bytes of the id.
public final class ZDBUpstream: UpstreamStore {
    public var label: String { gate.label }
    private let address: ZDBAddress
    private let client: ZDBClient
    let gate: UpstreamGate

    /// Opens no connection.
    ///
    /// - Parameters:
    ///   - rate: shared by all transfers of the node.
    ///   - gate: of this upstream; its label is the address's.
    init(
        address: ZDBAddress, transfer: TransferLimits, rate: ReceiveRate, gate: UpstreamGate, pool: ZDBPool.Limits = ZDBPool.Limits()
    ) {
        (self.address, self.gate) = (address, gate)
        client = ZDBClient(address: address, transfer: transfer, rate: rate, counters: gate.counters, limits: pool)
    }

    public func noteBadContent() { gate.noteBadContent() }

    public func fetch(_ id: ChunkID, priority: FetchPriority, pool: ChunkBufferPool) async throws(UpstreamError) -> ChunkBuffer {
        let buffer = try await gate.run(priority) { () async throws(AttemptFailure) in try await get(id, priority, pool) }
        gate.counters.add { $0.chunks += 1 }
        return buffer
    }

    private func get(_ id: ChunkID, _ priority: FetchPriority, _ pool: ChunkBufferPool) async throws(AttemptFailure) -> ChunkBuffer {
        let place = "\(label): chunk \(id.hex.prefix(12))…"
        let reply: RESPReply
        do throws(ZDBFailure) {
            reply = try await client.perform(.get(id), priority: priority, replyLimit: ChunkLimits.maxStoredBytes, buffers: pool)
        } catch {
            throw AttemptFailure(error, at: place)
        }
        switch reply {
        case .bulk(let buffer) where buffer.count > 0: return buffer
        case .null:
            gate.counters.add { $0.missing += 1 }
            throw AttemptFailure(.missing)
        case .bulk:
            gate.counters.add(failure: .broken)
            throw AttemptFailure(.failed(retryable: false, line: "\(place): the server keeps an empty value in its place"))
        case .error, .simple, .integer, .array:
            let failure = ZDBRefusal(reply, to: "GET", at: address).failure
            gate.counters.add(failure: failure.kind)
            throw AttemptFailure(failure, at: place)
        }
    }
}

extension AttemptFailure {
    /// - Parameter place: what was asked for, without credentials.
    init(_ failure: ZDBFailure, at place: String) {
        if failure.isCancellation {
            self.init(.cancelled)
        } else {
            self.init(
                .failed(retryable: failure.retryable, line: "\(place): \(failure.line)"),
                isUpstreamAtFault: failure.isAtFault && failure.kind != .tooLong)
        }
    }
}
