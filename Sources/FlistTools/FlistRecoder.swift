internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
public import Flist

/// What recoding did.
public struct RecodeReport: Sendable {
    public var entries = 1
    public var files = 0
    public var bytes: UInt64 = 0
    public var blocks = 0
    /// Chunks that a store did not have before, and their stored bytes.
    public var newChunks = 0
    public var newBytes: UInt64 = 0
    /// One line for each entry that was left out or is not whole, at most `FlistPacker.maxLines`.
    public var problems: [String] = []
    public var problemCount = 0
}

/// Makes an flist of another one, with the same tree and content, its blocks coded anew and put into stores: what turns a legacy flist
/// into one that rfs reads.
public enum FlistRecoder {
    /// Blocks fetched ahead of the one that is being coded (0.5 MB each as a rule).
    static let blocksInFlight = 16

    /// - Parameters:
    ///   - session: where the flist and the chunks go.
    ///   - blocks: gives the plain bytes of the old blocks.
    ///   - progress: bytes of files done and in all.
    /// - Throws: when a block cannot be had, or a store fails: an flist that lacks content is not written.
    public static func recode(
        _ flist: FlistFile, _ session: PackSession.Options, blocks: @escaping PlainBlockSource,
        progress: (@Sendable (_ done: UInt64, _ all: UInt64) throws -> Void)? = nil
    ) async throws -> RecodeReport {
        let run = RecodeRun(flist: flist, progress: progress)
        do {
            try await run.begin(session)
            while let (items, isLast) = try await run.nextItems() {
                for item in items { try await run.take(item, blocks) }
                if isLast { break }
            }
            return try await run.finish()
        } catch {
            await run.abort()
            throw error
        }
    }
}

/// The state of one recoding. Its session is for one thread, which is the only one of `thread`.
private final class RecodeRun: @unchecked Sendable {
    private let flist: FlistFile
    private let progress: (@Sendable (UInt64, UInt64) throws -> Void)?
    private let thread = BlockingThreads(count: 1)
    private var session: PackSession?
    private var walker: FlistWalker
    /// The walk's number of a directory → its inode number in the new flist.
    private var directories: [Int: Int64] = [0: 1]
    private var report = RecodeReport()
    private var all: UInt64 = 0

    init(flist: FlistFile, progress: (@Sendable (UInt64, UInt64) throws -> Void)?) {
        (self.flist, self.progress) = (flist, progress)
        walker = FlistWalker(flist, below: flist.root())
    }

    func begin(_ options: PackSession.Options) async throws {
        try await thread.run { [self] in
            try flist.checkIntegrity()
            all = try flist.totals().bytes
            let session = try PackSession(options)
            session.check = { [progress] in try progress?(0, 0) }
            self.session = session
            for tag in flist.tags where tag.key != FlistTag.codec && !options.tags.contains(where: { $0.key == tag.key }) {
                try session.add(tag: tag)
            }
            try session.add(row(flist.root(), ino: 1, parent: 0))
        }
    }

    func nextItems() async throws -> (items: [FlistWalker.Item], isLast: Bool)? {
        try await thread.run { [self] in
            var items: [FlistWalker.Item] = []
            while items.count < 256, let item = try walker.next() { items.append(item) }
            return (items, items.count < 256)
        }
    }

    func take(_ item: FlistWalker.Item, _ blocks: @escaping PlainBlockSource) async throws {
        switch item {
        case .problem(let problem): note(problem.line)
        case .entry(let visit):
            let entry = visit.entry
            guard let parent = directories[visit.directory] else { return }
            if entry.isFile {
                let refs: [BlockRef]
                do { refs = try await thread.run { [flist] in try flist.blocks(of: entry) } } catch let error as FlistError {
                    guard error.code == .badBlocks else { throw error }
                    return note("\(FlistPath.quoted(visit.path)): \(error.message)")
                }
                let ino = try await add(entry, parent: parent)
                let sum = try await copy(refs, to: ino, of: visit.path, blocks)
                if sum != entry.size { note("\(FlistPath.quoted(visit.path)): its blocks hold \(sum) bytes, its size is \(entry.size)") }
                report.files += 1
            } else {
                let ino = try await add(entry, parent: parent)
                if let number = visit.number { directories[number] = ino }
            }
            report.entries += 1
        }
    }

    private func add(_ entry: FlistEntry, parent: Int64) async throws -> Int64 {
        try await thread.run { [self] in
            let ino = session!.takeIno()
            try session!.add(row(entry, ino: ino, parent: parent))
            return ino
        }
    }

    /// - Returns: how many bytes the blocks hold.
    private func copy(_ refs: [BlockRef], to ino: Int64, of path: [UInt8], _ blocks: @escaping PlainBlockSource) async throws -> UInt64 {
        var sum: UInt64 = 0
        try await withThrowingTaskGroup(of: (Int, ChunkBuffer).self) { group in
            var arrived: [Int: ChunkBuffer] = [:]
            var asked = 0
            for next in refs.indices {
                while asked < min(refs.count, next + FlistRecoder.blocksInFlight) {
                    let (index, ref) = (asked, refs[asked])
                    group.addTask {
                        do { return (index, try await blocks(ref)) } catch let error as CancellationError { throw error } catch {
                            throw ToolError("\(FlistPath.quoted(path)): \(error)")
                        }
                    }
                    asked += 1
                }
                while arrived[next] == nil, let (index, buffer) = try await group.next() { arrived[index] = buffer }
                guard let buffer = arrived.removeValue(forKey: next) else { throw CancellationError() }
                sum += UInt64(buffer.count)
                report.bytes += UInt64(buffer.count)
                try progress?(report.bytes, all)
                // Uneven blocks are cut anew: the new flist is as rfs makes them.
                try await thread.run { [self] in try buffer.withBytes { try session!.append($0, to: ino) } }
            }
        }
        _ = try await thread.run { [self] in try session!.endPieces(of: ino) }
        return sum
    }

    func finish() async throws -> RecodeReport {
        try await thread.run { [self] in
            try session!.finish()
            let totals = session!.totals
            (report.blocks, report.newChunks, report.newBytes) = (totals.blocks, totals.newChunks, totals.newBytes)
            return report
        }
    }

    func abort() async { await thread.run { [self] in session?.abort() } }

    private func note(_ problem: String) {
        report.problemCount += 1
        if report.problems.count < FlistPacker.maxLines { report.problems.append(problem) }
    }

    private func row(_ entry: FlistEntry, ino: Int64, parent: Int64) -> FlistWriter.Row {
        var row = FlistWriter.Row(entry)
        (row.ino, row.parent, row.size) = (ino, parent, Int64(clamping: entry.size))
        return row
    }
}
