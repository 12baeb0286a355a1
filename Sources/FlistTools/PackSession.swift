internal import BlockingThreads
public import BlockCodec
public import ChunkModel
public import Flist
internal import Glibc

/// An `.fl` in the making, its blocks on the way into stores: what packing a directory, an image archive or a legacy flist have in
/// common. Blocking, for one thread: never on the cooperative pool.
///
/// Rows come in any order, parents before their children (FORMATS.md §1.2). Memory stays at the blocks under way. The flist is there
/// only after `finish()`; a session that goes without it leaves none behind, but what was stored stays in the stores.
public final class PackSession {
    public struct Options: Sendable {
        /// The `.fl` to write, replaced at the end; `.part` and `.resume` files beside it belong to the session.
        public var output: String
        /// Every id must be covered by at least one; a chunk goes to all that cover it.
        public var stores: [PackStore]
        /// Recorded in place of the stores' own URLs, when there are any.
        public var routes: [Route] = []
        public var tags: [FlistTag] = []
        /// How blocks are coded; other codings than `rfs` are recorded in a tag.
        public var coding = BlockCoding.rfs
        /// Records passwords and keys of store URLs in the flist, for all to read.
        public var keepPasswords = false
        /// Threads that encode; as many as the machine has processors when `nil`.
        public var workers: Int?
        /// Keeps a journal beside the output, for the same files to be taken from it after an interruption.
        public var isResumable = false
        /// A file that changed within so many seconds before the session began is read again by the next one: a change right after
        /// reading might not show in its times.
        package var settleSeconds = 2

        public init(output: String, stores: [PackStore]) { (self.output, self.stores) = (output, stores) }
    }

    /// What came so far.
    public struct Totals: Sendable {
        public var blocks = 0
        /// Chunks that a store did not have before, and their stored bytes.
        public var newChunks = 0
        public var newBytes: UInt64 = 0
    }

    public var totals: Totals { state.totals }
    /// Called now and then while the session waits for stores; what it throws ends the call that waits.
    public var check: () throws -> Void = {} {
        didSet { pipeline.check = check }
    }
    /// Buffers for `add(_:of:)`, used again after.
    public var pool: ChunkBufferPool { pipeline.pool }

    /// What the pipeline's deliveries add to.
    private final class State {
        let writer: FlistWriter
        var journal: PackJournal?
        var totals = Totals()
        /// Files whose blocks are not recorded.
        var dropped: Set<Int64> = []
        /// Files of the journal that the stores no longer have wholly.
        var absent: Set<Int64> = []
        /// The file whose blocks come, for the journal.
        var current: (ino: Int64, refs: [BlockRef]) = (0, [])
        init(writer: FlistWriter) { self.writer = writer }
    }

    private let options: Options
    private let files: PackFiles
    private let state: State
    private let pipeline: PackPipeline
    private let began: timespec
    private var nextIno: Int64 = 2
    /// Plain bytes of a file that comes piece by piece.
    private var piece: (buffer: ChunkBuffer?, size: Int64) = (nil, 0)

    /// - Throws: `ToolError` when an id has no store, the output cannot be written, or another run is writing it.
    public init(_ options: Options) throws {
        for byte in UInt8.min...UInt8.max where !options.stores.contains(where: { $0.range.contains(byte) }) {
            throw ToolError("no store for chunks whose id starts with \(Hex.encode([byte]))")
        }
        self.options = options
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        began = now
        files = try PackFiles(output: options.output, isResumable: options.isResumable)
        let writer = try FlistWriter(path: files.part)
        let state = State(writer: writer)
        self.state = state
        state.journal = files.journal.map { PackJournal(file: $0, coding: options.coding, identity: Self.identity(options)) }
        pipeline = PackPipeline(
            workers: options.workers ?? BlockingThreads.machineThreads, stores: options.stores, coding: options.coding
        ) { item, outcome in try Self.take(item, outcome, state) }
        let routes =
            options.routes.isEmpty ? options.stores.map { Route(range: ChunkRange(firstBytes: $0.range), url: $0.url) } : options.routes
        for route in routes {
            try writer.add(route: Route(range: route.range, url: options.keepPasswords ? route.url : PackStore.withoutPassword(route.url)))
        }
        for tag in options.tags { try writer.add(tag: tag) }
        if options.coding != .rfs { try writer.add(tag: FlistTag(key: FlistTag.codec, value: options.coding.name)) }
    }

    deinit { pipeline.cancel() }

    /// The next free inode number; the root has 1, without being asked.
    public func takeIno() -> Int64 {
        defer { nextIno += 1 }
        return nextIno
    }

    public func add(_ row: FlistWriter.Row) throws { try state.writer.add(row) }
    public func add(tag: FlistTag) throws { try state.writer.add(tag: tag) }

    /// The next block of the file `ino`, at most `ChunkLimits.blockBytes`; not to be changed afterwards.
    ///
    /// - Throws: what a store threw, maybe for an earlier block.
    public func add(_ plain: ChunkBuffer, of ino: Int64) throws { try pipeline.add(plain, of: ino) }

    /// The next block of the file `ino`, which lies in a store that readers know: nothing is looked at or sent.
    public func add(stored ref: BlockRef, of ino: Int64) throws {
        try state.writer.add(ref, to: ino)
        state.totals.blocks += 1
    }

    /// The next bytes of a file whose content comes in pieces of any length, one file at a time: cut into blocks here.
    public func append(_ bytes: UnsafeRawBufferPointer, to ino: Int64) throws {
        var rest = bytes
        while !rest.isEmpty {
            let buffer = piece.buffer ?? pool.take()
            piece.buffer = buffer
            let count = min(rest.count, ChunkLimits.blockBytes - buffer.count)
            UnsafeMutableRawBufferPointer(start: buffer.base + buffer.count, count: count).copyMemory(
                from: UnsafeRawBufferPointer(rebasing: rest.prefix(count)))
            buffer.count += count
            piece.size += Int64(count)
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
            if buffer.count == ChunkLimits.blockBytes { try flushPiece(of: ino) }
        }
    }

    /// The end of such a file.
    ///
    /// - Returns: how many bytes it has.
    public func endPieces(of ino: Int64) throws -> Int64 {
        try flushPiece(of: ino)
        defer { piece.size = 0 }
        return piece.size
    }

    private func flushPiece(of ino: Int64) throws {
        guard let buffer = piece.buffer else { return }
        piece.buffer = nil
        try pipeline.add(buffer, of: ino)
    }

    /// Gives the blocks of `source` to the file `ino` too; those that are in the stores, so `drain()` first.
    public func copyBlocks(of source: Int64, to ino: Int64) throws {
        state.totals.blocks += try state.writer.copyBlocks(of: source, to: ino)
    }

    /// Leaves out the blocks that the file `ino` has or gets.
    public func dropBlocks(of ino: Int64) { state.dropped.insert(ino) }

    /// Waits until all blocks are in the stores. More may follow.
    public func drain() throws {
        try pipeline.drain()
        state.journal?.flush()
    }

    /// Waits for the stores, then puts the flist in its place.
    public func finish() throws {
        try drain()
        for ino in state.dropped.union(state.absent).sorted() { try state.writer.removeBlocks(of: ino) }
        do {
            try state.writer.finish()
        } catch {
            throw ToolError("\(FlistPath.quoted(Array(options.output.utf8))): \(error)")
        }
        try files.finish()
    }

    /// Ends the session without an flist; the journal stays for the next run. Nothing is stored any more once this has returned.
    public func abort() {
        pipeline.stop()
        pipeline.deliverFinished()
        state.journal?.flush()
        files.abort()
    }

    private static func take(_ item: PackPipeline.Item, _ outcome: PackPipeline.Outcome, _ state: State) throws {
        switch outcome {
        case .stored(let ref, let bytes, let stores):
            state.totals.newChunks += stores
            state.totals.newBytes += UInt64(stores * bytes)
            guard !state.dropped.contains(item.ino), !state.absent.contains(item.ino) else { return }
            try state.writer.add(ref, to: item.ino)
            state.totals.blocks += 1
            guard state.journal != nil else { return }
            if state.current.ino != item.ino { state.current = (item.ino, []) }
            state.current.refs.append(ref)
        case .absent: state.absent.insert(item.ino)
        case .mark:
            guard let key = item.note, state.current.ino == item.ino, !state.dropped.contains(item.ino) else { return }
            state.journal?.add(key, state.current.refs)
        }
    }

    /// What must be the same for a journal to be believed. A digest, since URLs may hold passwords.
    private static func identity(_ options: Options) -> [UInt8] {
        let stores = options.stores.map { "\($0.range.lowerBound)-\($0.range.upperBound)=\($0.url)\n" }.sorted().joined()
        let text = Array("\(options.coding.name) \(ChunkLimits.blockBytes)\n\(stores)".utf8)
        return Array(text.withUnsafeBytes { Blake2b.hash256($0) }.bytes)
    }
}

/// For runs that find the same files again.
extension PackSession {
    /// The blocks of a file of an interrupted run.
    func journalled(_ key: PackJournal.Key) -> [BlockRef]? { state.journal?.blocks(of: key) }

    private var keepsJournal: Bool { state.journal != nil }

    /// The next block of `ino`, from the journal: the stores are asked whether they have it.
    func add(journalled ref: BlockRef, of ino: Int64) throws { try pipeline.add(ref, of: ino) }

    /// All blocks of the file came: it is recorded in the journal when they are stored.
    func end(_ ino: Int64, _ key: PackJournal.Key) throws { try pipeline.add(nil, of: ino, note: key) }

    /// Files whose journalled blocks are no longer in the stores, with their paths; afterwards their blocks are expected anew.
    func takeAbsent() throws -> [(ino: Int64, path: [UInt8])] {
        let absent = state.absent.sorted()
        state.absent = []
        return try absent.compactMap { ino in
            try state.writer.removeBlocks(of: ino)
            return try state.writer.path(of: ino).map { (ino, $0) }
        }
    }

    /// What the journal knows a file by; `nil` without a journal, or when the file is too new.
    func journalKey(_ path: [UInt8], _ status: stat) -> PackJournal.Key? {
        guard keepsJournal, status.st_size > 0 else { return nil }
        return PackJournal.Key(path: path, status, before: began.tv_sec - options.settleSeconds)
    }

    func setSize(_ size: Int64, of ino: Int64) throws { try state.writer.setSize(size, of: ino) }

    /// Files that a packed tree must not contain, since the session writes them.
    var ownPaths: [String] { [options.output, files.part, files.resume] }
}

/// The files of a session: OUT.part under a lock, OUT.resume, and at the end OUT.
private final class PackFiles {
    let output: String
    let part: String
    let resume: String
    private let lock: Int32
    /// Open journal, if there is one.
    let journal: Int32?
    private var isOver = false

    init(output: String, isResumable: Bool) throws {
        self.output = output
        part = output + ".part"
        resume = output + ".resume"
        lock = try Self.lockedPart(part)
        var file: Int32?
        if isResumable {
            let opened = open(resume, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600)
            guard opened >= 0, PackJournal.isJournal(opened) else {
                let error =
                    opened < 0
                    ? ToolError.system(FlistPath.quoted(Array(resume.utf8)))
                    : ToolError("\(FlistPath.quoted(Array(resume.utf8))): is in the way; packing keeps its journal there")
                if opened >= 0 { close(opened) }
                unlink(part)
                close(lock)
                throw error
            }
            file = opened
        }
        journal = file
    }

    deinit {
        abort()
        if let journal { close(journal) }
        close(lock)
    }

    /// An empty `part` that no other run has.
    private static func lockedPart(_ part: String) throws -> Int32 {
        let shown = FlistPath.quoted(Array(part.utf8))
        for _ in 0..<100 {
            let file = open(part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o644)
            guard file >= 0 else { throw ToolError.system(shown) }
            guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
                close(file)
                throw ToolError("\(shown): another run is writing it")
            }
            // Between opening and locking it may have become somebody's finished flist.
            var (mine, there) = (stat(), stat())
            if fstat(file, &mine) == 0, stat(part, &there) == 0, mine.st_ino == there.st_ino, mine.st_dev == there.st_dev {
                guard ftruncate(file, 0) == 0 else { throw ToolError.system(shown) }
                return file
            }
            close(file)
        }
        throw ToolError("\(shown): another run is writing it")
    }

    func finish() throws {
        guard fsync(lock) == 0, rename(part, output) == 0 else { throw ToolError.system(FlistPath.quoted(Array(output.utf8))) }
        isOver = true
        if journal != nil { unlink(resume) }
    }

    func abort() {
        guard !isOver else { return }
        isOver = true
        unlink(part)
    }
}
