public import ChunkModel

/// Puts chunks into a zdb, an ardb or a redis, the bytes of the id being the key.
///
/// Only what both kinds of server answer is relied upon: zdb answers SET with the key, or with nothing when it has that value already;
/// redis says OK.
public final class ZDBSink: ChunkSink {
    /// Bytes that the values of the reply to SET or EXISTS may have: zdb sends the key back, of at most 255 bytes.
    static let replyBytes = 1_024

    public var label: String { gate.label }
    private let address: ZDBAddress
    private let client: ZDBClient
    private let gate: UpstreamGate
    private let buffers = ChunkBufferPool(keep: 0)

    /// Opens no connection.
    init(
        address: ZDBAddress, transfer: TransferLimits, rate: ReceiveRate, credentials: CredentialBox, gate: UpstreamGate,
        pool: ZDBPool.Limits = ZDBPool.Limits()
    ) {
        (self.address, self.gate) = (address, gate)
        client = ZDBClient(
            address: address, credentials: credentials, transfer: transfer, rate: rate, counters: gate.counters, limits: pool)
    }

    /// - Throws: `UpstreamError` with one line.
    public func contains(_ id: ChunkID) async throws -> Bool {
        try await gate.run(.prefetch) { () async throws(AttemptFailure) in
            let place = "\(label): chunk \(id.hex.prefix(12))…"
            switch try await send(.exists(id), place) {
            case .integer(0): return false
            case .integer(1): return true
            case let reply: throw refused(reply, "EXISTS", place)
            }
        }
    }

    /// - Throws: `UpstreamError` with one line; a full or read-only store is not taken for a passing failure.
    public func store(_ chunk: Chunk) async throws {
        let place = "\(label): chunk \(chunk.id.hex.prefix(12))… cannot be stored"
        guard chunk.byteCount > 0 else { throw UpstreamError.failed(retryable: false, line: "\(place): it is empty") }
        try await gate.run(.prefetch) { () async throws(AttemptFailure) in
            switch try await send(.set(chunk), place) {
            case .null: break
            case .bulk(let key) where key.withBytes({ $0.elementsEqual(chunk.id.bytes) }): break
            case .bulk: throw fault("the server keeps values under keys of its own (a zdb in sequential mode)", place)
            case .simple(let text) where text == Array("OK".utf8): break
            case let reply: throw refused(reply, "SET", place)
            }
        }
        gate.noteStored(chunk)
    }

    private func send(_ request: RESPRequest, _ place: String) async throws(AttemptFailure) -> RESPReply {
        do throws(ZDBFailure) {
            return try await client.perform(request, priority: .prefetch, replyLimit: Self.replyBytes, buffers: buffers)
        } catch {
            throw AttemptFailure(error, at: place)
        }
    }

    private func refused(_ reply: RESPReply, _ command: String, _ place: String) -> AttemptFailure {
        let failure = ZDBRefusal(reply, to: command, at: address).failure
        gate.counters.add(failure: failure.kind)
        return AttemptFailure(failure, at: place)
    }

    private func fault(_ line: String, _ place: String) -> AttemptFailure {
        gate.counters.add(failure: .broken)
        return AttemptFailure(.failed(retryable: false, line: "\(place): \(line)"), isUpstreamAtFault: true)
    }
}
