internal import BlockingThreads
internal import BlockCodec
public import ChunkModel
public import Flist

/// What a whole flist needs, checked against a source. All is well when `isComplete`.
public struct VerifyReport: Sendable {
    public var chunks = 0
    public var goodChunks = 0
    public var storedBytes: UInt64 = 0
    /// Chunks that the source doesn't have.
    public var missing: [ChunkID] = []
    /// Chunks that it could not give, or whose bytes are wrong: one line each.
    public var bad: [(id: ChunkID, reason: String)] = []
    /// Entries of the flist that are refused, and files that their blocks don't make up.
    public var problems: [String] = []
    public var isComplete: Bool { missing.isEmpty && bad.isEmpty && problems.isEmpty }
}

/// Fetches every unique chunk of an flist, decodes it, and sees whether the files add up.
public enum FlistVerifier {
    /// Chunks asked for at once.
    static let chunksInFlight = 16

    private enum Outcome: Sendable {
        case good(stored: Int, plain: Int)
        case missing
        case bad(String)
    }

    /// - Parameters:
    ///   - priority: that the source sees.
    ///   - progress: chunks checked and chunks in all, after each.
    /// - Throws: `FlistError` when the flist itself is damaged; what the source lacks is in the report.
    public static func verify(
        _ flist: FlistFile, source: any ChunkSource, priority: FetchPriority = .prefetch, progress: ((Int, Int) -> Void)? = nil
    ) async throws -> VerifyReport {
        let threads = BlockingThreads(count: BlockingThreads.machineThreads)
        let pool = ChunkBufferPool(keep: 2 * chunksInFlight)
        let (blocks, badRows) = try await threads.run {
            try flist.checkIntegrity()
            return try flist.uniqueBlocks()
        }
        var report = VerifyReport()
        report.chunks = blocks.count
        if badRows > 0 { report.problems.append("\(badRows) block rows have an id or key that is not 32 bytes") }

        var lengths: [BlockRef: UInt32] = [:]
        try await withThrowingTaskGroup(of: (Int, Outcome).self) { group in
            func take(_ index: Int, _ outcome: Outcome) {
                switch outcome {
                case .good(let stored, let plain):
                    report.goodChunks += 1
                    report.storedBytes += UInt64(stored)
                    lengths[blocks[index]] = UInt32(plain)
                case .missing: report.missing.append(blocks[index].id)
                case .bad(let reason): report.bad.append((blocks[index].id, reason))
                }
                progress?(report.goodChunks + report.missing.count + report.bad.count, blocks.count)
            }
            for (index, block) in blocks.enumerated() {
                if index >= chunksInFlight, let (done, outcome) = try await group.next() { take(done, outcome) }
                try Task.checkCancellation()
                group.addTask { (index, try await check(block, source, priority, threads, pool)) }
            }
            for try await (done, outcome) in group { take(done, outcome) }
        }
        report.missing.sort()
        report.bad.sort { $0.id < $1.id }
        let known = lengths
        report.problems += try await threads.run { try problems(flist, lengths: known) }
        return report
    }

    private static func check(
        _ block: BlockRef, _ source: any ChunkSource, _ priority: FetchPriority, _ threads: BlockingThreads, _ pool: ChunkBufferPool
    ) async throws -> Outcome {
        do {
            guard let chunk = try await source.chunk(block.id, priority: priority) else { return .missing }
            return try await threads.run {
                .good(stored: chunk.byteCount, plain: try BlockCodec.decode(chunk, as: block, pool: pool).count)
            }
        } catch let error as CancellationError {
            throw error
        } catch {
            return .bad("\(error)")
        }
    }

    /// Refused entries, and files whose (good) blocks don't add up.
    private static func problems(_ flist: FlistFile, lengths: [BlockRef: UInt32]) throws -> [String] {
        var problems: [String] = []
        var walker = FlistWalker(flist, below: flist.root())
        while let item = try walker.next() {
            switch item {
            case .problem(let problem): problems.append(problem.line)
            case .entry(let visit):
                guard visit.entry.isFile else { continue }
                do throws(FlistError) {
                    let blocks = try flist.blocks(of: visit.entry)
                    let known = blocks.compactMap { lengths[$0] }
                    // A file with a missing chunk is told by the chunk.
                    guard known.count == blocks.count else { continue }
                    let sum = known.reduce(UInt64(0)) { $0 + UInt64($1) }
                    if sum != visit.entry.size {
                        problems.append("\(FlistPath.quoted(visit.path)): its blocks hold \(sum) bytes, its size is \(visit.entry.size)")
                    }
                } catch {
                    guard error.code == .badBlocks else { throw error }
                    problems.append("\(FlistPath.quoted(visit.path)): \(error.message)")
                }
            }
        }
        return problems
    }
}
