internal import BlockingThreads
internal import BlockCodec
public import ChunkModel
public import Flist
internal import Synchronization

/// What a whole flist needs, checked against a source. All is well when `isComplete`.
public struct VerifyReport: Sendable {
    public var chunks = 0
    public var goodChunks = 0
    public var storedBytes: UInt64 = 0
    /// Chunks that the source doesn't have; at most `FlistVerifier.maxLines`.
    public var missing: [ChunkID] = []
    public var missingCount = 0
    /// Chunks that it could not give, or whose bytes are wrong: one line each, at most `FlistVerifier.maxLines`.
    public var bad: [(id: ChunkID, reason: String)] = []
    public var badCount = 0
    /// The first file, quoted, that needs a chunk of `missing` and `bad`.
    public var files: [ChunkID: String] = [:]
    /// Entries of the flist that are refused, and files that their blocks don't make up; at most `FlistVerifier.maxLines`.
    public var problems: [String] = []
    public var problemCount = 0
    public var isComplete: Bool { missingCount == 0 && badCount == 0 && problemCount == 0 }

    mutating func add(problem: String) {
        problemCount += 1
        if problems.count < FlistVerifier.maxLines { problems.append(problem) }
    }
}

/// Fetches every unique chunk of an flist, decodes it, and sees whether the files add up. Memory: some 40 bytes for each chunk, and the
/// chunks under way.
public enum FlistVerifier {
    /// Chunks asked for at once where they come from afar.
    static let chunksInFlight = 16
    /// Chunks that one thread looks at in a row where they lie on this machine.
    static let directBatch = 32
    /// Lines of each kind in the report; further ones are counted only.
    public static let maxLines = 10_000

    /// - Parameters:
    ///   - priority: that the source sees.
    ///   - progress: chunks checked and chunks in all, after some of them, from any thread.
    /// - Throws: `FlistError` when the flist itself is damaged; what the source lacks is in the report.
    public static func verify(
        _ flist: FlistFile, source: any ChunkSource, priority: FetchPriority = .prefetch, progress: (@Sendable (Int, Int) -> Void)? = nil
    ) async throws -> VerifyReport {
        let run = VerifyRun(flist, source, priority, progress)
        return try await run.run()
    }
}

/// One run of `FlistVerifier`.
private final class VerifyRun: Sendable {
    private enum Outcome: Sendable {
        case good(stored: Int, plain: Int)
        case missing
        case bad(String)
    }

    private struct State: Sendable {
        var unique: UniqueBlocks
        var report = VerifyReport()
    }

    private let flist: FlistFile
    private let source: any ChunkSource
    private let direct: (any BlockingChunkSource)?
    private let priority: FetchPriority
    private let progress: (@Sendable (Int, Int) -> Void)?
    private let threads = BlockingThreads(count: BlockingThreads.machineThreads)
    private let pool = ChunkBufferPool(keep: 2 * FlistVerifier.chunksInFlight)
    private let state: Mutex<State>

    init(_ flist: FlistFile, _ source: any ChunkSource, _ priority: FetchPriority, _ progress: (@Sendable (Int, Int) -> Void)?) {
        (self.flist, self.source, self.priority, self.progress) = (flist, source, priority, progress)
        direct = source as? any BlockingChunkSource
        state = Mutex(State(unique: UniqueBlocks(flist, byChunk: false)))
    }

    func run() async throws -> VerifyReport {
        let all = try await threads.run { [flist] in
            try flist.checkIntegrity()
            return try UniqueBlocks.count(flist, byChunk: false)
        }
        state.withLock { $0.report.chunks = all }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<(direct == nil ? FlistVerifier.chunksInFlight : threads.count) { group.addTask { try await self.lane() } }
            try await group.waitForAll()
        }
        return try await threads.run {
            var end = self.state.withLock { $0 }
            if end.unique.badRows > 0 { end.report.add(problem: "\(end.unique.badRows) block rows have no usable id or key") }
            end.report.missing.sort()
            end.report.bad.sort { $0.id < $1.id }
            try self.addProblems(end.unique.table, to: &end.report)
            return end.report
        }
    }

    private func lane() async throws {
        while true {
            try Task.checkCancellation()
            // For a source on this machine, looking up what is next and looking at it is one hop.
            let items = try await threads.run {
                let items = try self.state.withLock { try $0.unique.next(limit: self.direct == nil ? 1 : FlistVerifier.directBatch) }
                if let direct = self.direct { for item in items { self.take(item, self.checkNow(item.ref, direct)) } }
                return items
            }
            guard !items.isEmpty else { return }
            if direct == nil { for item in items { take(item, try await check(item.ref)) } }
        }
    }

    private func take(_ item: UniqueBlocks.Item, _ outcome: Outcome) {
        let (done, all) = state.withLock { state in
            note(item, outcome, &state)
            return (state.report.goodChunks + state.report.missingCount + state.report.badCount, state.report.chunks)
        }
        progress?(done, all)
    }

    private func note(_ item: UniqueBlocks.Item, _ outcome: Outcome, _ state: inout State) {
        let id = item.ref.id
        switch outcome {
        case .good(let stored, let plain):
            state.report.goodChunks += 1
            state.report.storedBytes += UInt64(stored)
            state.unique.setLength(plain, of: item.ref)
            return
        case .missing:
            state.report.missingCount += 1
            guard state.report.missing.count < FlistVerifier.maxLines else { return }
            state.report.missing.append(id)
        case .bad(let reason):
            state.report.badCount += 1
            guard state.report.bad.count < FlistVerifier.maxLines else { return }
            state.report.bad.append((id, reason))
        }
        if let path = flist.shownPath(of: item.ino) { state.report.files[id] = path }
    }

    private func checkNow(_ block: BlockRef, _ source: any BlockingChunkSource) -> Outcome {
        do {
            guard let chunk = try source.chunkNow(block.id, pool: pool) else { return .missing }
            return .good(stored: chunk.byteCount, plain: try BlockCodec.decode(chunk, as: block, pool: pool).count)
        } catch {
            return .bad("\(error)")
        }
    }

    private func check(_ block: BlockRef) async throws -> Outcome {
        do {
            guard let chunk = try await source.chunk(block.id, priority: priority) else { return .missing }
            return try await threads.run { [pool] in
                .good(stored: chunk.byteCount, plain: try BlockCodec.decode(chunk, as: block, pool: pool).count)
            }
        } catch let error as CancellationError {
            throw error
        } catch {
            try Task.checkCancellation()
            return .bad("\(error)")
        }
    }

    /// Refused entries, and files whose (good) blocks don't add up.
    private func addProblems(_ table: BlockTable, to report: inout VerifyReport) throws {
        var walker = FlistWalker(flist, below: flist.root())
        while let item = try walker.next() {
            switch item {
            case .problem(let problem): report.add(problem: problem.line)
            case .entry(let visit):
                guard visit.entry.isFile else { continue }
                do throws(FlistError) {
                    let blocks = try flist.blocks(of: visit.entry)
                    let known = blocks.compactMap { table.length(of: $0) }
                    // A file with a missing chunk is told by the chunk.
                    guard known.count == blocks.count else { continue }
                    let sum = known.reduce(UInt64(0)) { $0 + UInt64($1) }
                    if sum != visit.entry.size {
                        report.add(
                            problem: "\(FlistPath.quoted(visit.path)): its blocks hold \(sum) bytes, its size is \(visit.entry.size)")
                    }
                } catch {
                    guard error.code == .badBlocks else { throw error }
                    report.add(problem: "\(FlistPath.quoted(visit.path)): \(error.message)")
                }
            }
        }
    }
}
