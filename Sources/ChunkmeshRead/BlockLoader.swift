internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
internal import ReadAPI
internal import Synchronization

/// Decoded blocks from a source of chunks: each is got once, however many wait, and those used last are kept.
final class BlockLoader: Sendable {
    /// Blocks that are read ahead at a time, of all files; while there are as many, nothing more is.
    static let maxAhead = 32

    private struct Key: Hashable { let id: ChunkID, key: BlockKey }
    private struct Flight {
        let turn: UInt64
        var waiters: [UInt64: CheckedContinuation<ChunkBuffer, any Error>] = [:]
        var task: Task<Void, Never>?
    }
    private struct State {
        var flights: [Key: Flight] = [:]
        var tokens: UInt64 = 0
        var ahead = 0
    }

    private let source: any ChunkSource
    private let threads: BlockingThreads
    private let cache: DecodedBlockCache
    private let pool = ChunkBufferPool()
    private let state = Mutex(State())
    /// Blocks that a reader may have ahead of it, so that what was got is still there when it comes.
    let window: Int

    /// - Parameter memory: bytes of decoded blocks that are kept.
    init(source: any ChunkSource, threads: BlockingThreads, memory: Int) {
        (self.source, self.threads) = (source, threads)
        cache = DecodedBlockCache(maxBytes: memory)
        window = max(0, memory / ChunkLimits.blockBytes / 4)
    }

    /// The plain bytes of the block. Who is cancelled leaves at once; the others' fetch goes on.
    func block(_ ref: BlockRef, priority: FetchPriority) async throws -> ChunkBuffer {
        if let known = cache.block(ref.id, ref.key) { return known }
        let key = Key(id: ref.id, key: ref.key)
        let token = state.withLock { state in
            state.tokens += 1
            return state.tokens
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                state.withLock { state in
                    let isNew = state.flights[key] == nil
                    state.flights[key, default: Flight(turn: token)].waiters[token] = continuation
                    if isNew { state.flights[key]!.task = Task { await self.load(ref, key, token, priority) } }
                }
                if Task.isCancelled { leave(key, token) }
            }
        } onCancel: {
            leave(key, token)
        }
    }

    private func leave(_ key: Key, _ token: UInt64) {
        let (continuation, task) = state.withLock { state in
            let continuation = state.flights[key]?.waiters.removeValue(forKey: token)
            guard continuation != nil, state.flights[key]?.waiters.isEmpty == true else { return (continuation, nil as Task<Void, Never>?) }
            // Whoever comes now begins anew.
            return (continuation, state.flights.removeValue(forKey: key)?.task)
        }
        task?.cancel()
        continuation?.resume(throwing: CancellationError())
    }

    private func load(_ ref: BlockRef, _ key: Key, _ turn: UInt64, _ priority: FetchPriority) async {
        let result: Result<ChunkBuffer, any Error>
        do {
            guard let chunk = try await source.chunk(ref.id, priority: priority) else {
                throw FlistReadError(.notFound, "chunk \(ref.id.hex) is in none of the stores")
            }
            let plain = try await threads.run { [pool] in try BlockCodec.decode(chunk, as: ref, pool: pool) }
            cache.insert(plain, for: ref.id, ref.key)
            result = .success(plain)
        } catch {
            result = .failure(error)
        }
        // A load that was given up is not that of those who came after it.
        let waiters = state.withLock { state -> [UInt64: CheckedContinuation<ChunkBuffer, any Error>] in
            guard state.flights[key]?.turn == turn else { return [:] }
            return state.flights.removeValue(forKey: key)!.waiters
        }
        for continuation in waiters.values { continuation.resume(with: result) }
    }

    /// Gets blocks for later, as far as there is room for them.
    ///
    /// - Returns: what ends that.
    func ahead(_ refs: ArraySlice<BlockRef>) -> Task<Void, Never>? {
        let count = state.withLock { state in
            let count = min(refs.count, Self.maxAhead - state.ahead)
            if count > 0 { state.ahead += count }
            return count
        }
        guard count > 0 else { return nil }
        return Task {
            await withTaskGroup(of: Void.self) { group in
                for ref in refs.prefix(count) {
                    group.addTask {
                        // What fails here is tried again by whoever needs it.
                        _ = try? await self.block(ref, priority: .readAhead)
                        self.state.withLock { $0.ahead -= 1 }
                    }
                }
            }
        }
    }
}
