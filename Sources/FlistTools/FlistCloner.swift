internal import BlockCodec
internal import BlockingThreads
public import ChunkModel
public import Flist
internal import Glibc
internal import Synchronization

/// What cloning did. All chunks are in the stores when `problemCount` is 0.
public struct CloneReport: Sendable {
    public var chunks = 0
    /// Chunks that all stores for them had already.
    public var present = 0
    /// Chunks that went into a store, and their bytes; one that goes into two counts twice.
    public var copied = 0
    public var bytes: UInt64 = 0
    /// Chunks that the source does not have or that are wrong there: one line each, at most `FlistCloner.maxLines`.
    public var problems: [String] = []
    public var problemCount = 0
}

/// Copies all chunks of an flist to other stores: as they are, checked against their ids, and only those that are not there.
public enum FlistCloner {
    /// Chunks under way at once (0.5 MB each as a rule, 2.4 MB at most).
    static let chunksInFlight = 24
    static let directBatch = 32
    public static let maxLines = 10_000

    /// - Parameter progress: chunks looked at and chunks in all, from any thread.
    /// - Throws: `FlistError` when the flist is damaged, `ToolError` when an id has no store, and what a store throws that does not take
    ///   a chunk. What was copied until then stays, and is not copied again the next time.
    public static func clone(
        _ flist: FlistFile, from source: any ChunkSource, to stores: [PackStore], progress: (@Sendable (Int, Int) -> Void)? = nil
    ) async throws -> CloneReport {
        for byte in UInt8.min...UInt8.max where !stores.contains(where: { $0.range.contains(byte) }) {
            throw ToolError("no store for chunks whose id starts with \(Hex.encode([byte]))")
        }
        return try await CloneRun(flist, source, stores, progress).run()
    }
}

/// One run of `FlistCloner`.
private final class CloneRun: Sendable {
    private struct State: Sendable {
        var unique: UniqueBlocks
        var report = CloneReport()
        var seen = 0
    }

    private let flist: FlistFile
    private let source: any ChunkSource
    private let stores: [PackStore]
    /// Source and stores, when all of them lie on this machine.
    private let direct: (source: any BlockingChunkSource, sinks: [(range: ClosedRange<UInt8>, sink: any BlockingChunkSink)])?
    private let progress: (@Sendable (Int, Int) -> Void)?
    private let threads = BlockingThreads(count: BlockingThreads.machineThreads)
    private let pool = ChunkBufferPool(keep: FlistCloner.chunksInFlight)
    private let state: Mutex<State>

    init(_ flist: FlistFile, _ source: any ChunkSource, _ stores: [PackStore], _ progress: (@Sendable (Int, Int) -> Void)?) {
        (self.flist, self.source, self.stores, self.progress) = (flist, source, stores, progress)
        let sinks = stores.compactMap { store in (store.sink as? any BlockingChunkSink).map { (range: store.range, sink: $0) } }
        let from = source as? any BlockingChunkSource
        direct = sinks.count == stores.count ? from.map { ($0, sinks) } : nil
        state = Mutex(State(unique: UniqueBlocks(flist, byChunk: true)))
    }

    func run() async throws -> CloneReport {
        let all = try await threads.run { [flist] in
            try flist.checkIntegrity()
            return try UniqueBlocks.count(flist, byChunk: true)
        }
        state.withLock { $0.report.chunks = all }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<(direct != nil ? threads.count : FlistCloner.chunksInFlight) { group.addTask { try await self.lane() } }
            try await group.waitForAll()
        }
        return state.withLock { state in
            if state.unique.badRows > 0 {
                state.report.problemCount += 1
                state.report.problems.append("\(state.unique.badRows) block rows have no usable id or key")
            }
            return state.report
        }
    }

    private func lane() async throws {
        while true {
            try Task.checkCancellation()
            let items = try await threads.run {
                let items = try self.state.withLock { try $0.unique.next(limit: self.direct == nil ? 1 : FlistCloner.directBatch) }
                if self.direct != nil { for item in items { try self.copyNow(item) } }
                return items
            }
            guard !items.isEmpty else { return }
            if direct == nil { for item in items { try await copy(item) } }
        }
    }

    private func copyNow(_ item: UniqueBlocks.Item) throws {
        guard let direct else { return }
        let id = item.ref.id
        let lacking = try direct.sinks.filter { try $0.range.contains(id.firstByte) && !$0.sink.containsNow(id) }
        guard !lacking.isEmpty else { return done(0, 0) }
        let chunk: Chunk?
        do { chunk = try direct.source.chunkNow(id, pool: pool) } catch { return failed(item, "\(error)") }
        guard let chunk else { return failed(item, "missing") }
        for (_, sink) in lacking { try sink.storeNow(chunk) }
        done(lacking.count, chunk.byteCount)
    }

    private func copy(_ item: UniqueBlocks.Item) async throws {
        let id = item.ref.id
        var lacking: [any ChunkSink] = []
        for store in stores where store.range.contains(id.firstByte) {
            if try await !store.sink.contains(id) { lacking.append(store.sink) }
        }
        guard !lacking.isEmpty else { return done(0, 0) }
        let chunk: Chunk?
        do { chunk = try await source.chunk(id, priority: .prefetch) } catch {
            try Task.checkCancellation()
            return failed(item, "\(error)")
        }
        guard let chunk else { return failed(item, "missing") }
        for sink in lacking { try await sink.store(chunk) }
        done(lacking.count, chunk.byteCount)
    }

    private func done(_ stored: Int, _ bytes: Int) {
        let (seen, all) = state.withLock { state in
            if stored == 0 { state.report.present += 1 }
            state.report.copied += stored
            state.report.bytes += UInt64(stored * bytes)
            state.seen += 1
            return (state.seen, state.report.chunks)
        }
        progress?(seen, all)
    }

    private func failed(_ item: UniqueBlocks.Item, _ reason: String) {
        let file = flist.shownPath(of: item.ino).map { " (\($0))" } ?? ""
        let (seen, all) = state.withLock { state in
            state.report.problemCount += 1
            if state.report.problems.count < FlistCloner.maxLines {
                state.report.problems.append("chunk \(item.ref.id.hex): \(reason)\(file)")
            }
            state.seen += 1
            return (state.seen, state.report.chunks)
        }
        progress?(seen, all)
    }
}
