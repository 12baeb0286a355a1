internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
internal import Flist
internal import Glibc
internal import LocalFiles
internal import Synchronization

/// The part of an extraction that its tasks share.
final class ExtractRun: Sendable {
    /// A file that is written block by block, several of them under way.
    struct Job: Sendable {
        let file: ExtractTree.File
        let refs: [BlockRef]
    }

    let flist: FlistFile
    let options: ExtractOptions
    let threads: BlockingThreads
    private let blocks: PlainBlockSource
    private let direct: (@Sendable (BlockRef) throws -> ChunkBuffer)?
    private let slots = UploadSlots(FlistExtractor.allBlocksInFlight)
    private let progress: (@Sendable (ExtractProgress) -> Void)?
    private let state = Mutex((report: ExtractReport(), stop: (any Error)?.none))

    init(
        flist: FlistFile, options: ExtractOptions, blocks: @escaping PlainBlockSource,
        direct: (@Sendable (BlockRef) throws -> ChunkBuffer)?, threads: BlockingThreads,
        progress: (@Sendable (ExtractProgress) -> Void)?
    ) {
        (self.flist, self.options, self.blocks, self.direct) = (flist, options, blocks, direct)
        (self.threads, self.progress) = (threads, progress)
    }

    var isDirect: Bool { direct != nil }
    var report: ExtractReport { state.withLock { $0.report } }

    /// Ends the run at the next look.
    func stop(_ error: any Error) { state.withLock { $0.stop = $0.stop ?? error } }

    /// - Throws: what the run was stopped with.
    func checkGoesOn() throws { if let error = state.withLock({ $0.stop }) { throw error } }

    func count(_ change: @Sendable (inout ExtractReport) -> Void) {
        let now = state.withLock { state in
            change(&state.report)
            return ExtractProgress(files: state.report.files, bytes: state.report.bytes)
        }
        progress?(now)
    }

    func add(problem: String) {
        state.withLock { state in
            state.report.problemCount += 1
            if state.report.problems.count < FlistExtractor.maxLines { state.report.problems.append(problem) }
        }
    }

    private func add(note: String) {
        state.withLock { if $0.report.notes.count < FlistExtractor.maxLines { $0.report.notes.append(note) } }
    }

    /// Notes what went wrong with an entry.
    ///
    /// - Throws: when it would go wrong with all others too: the disk is full or gone, the run was stopped.
    func fail(_ path: [UInt8], _ error: any Error) throws {
        try checkGoesOn()
        switch error {
        case let error as CancellationError: throw error
        case let error as ToolError where error.isFatalForWriting: throw ToolError("\(FlistPath.quoted(path)): \(error.message)")
        case let error as FlistError: add(problem: "\(FlistPath.quoted(path)): \(error.message)")
        default: add(problem: "\(FlistPath.quoted(path)): \(error)")
        }
    }

    /// Where a single file goes: into the directory `destination`, or to that name.
    static func place(of entry: FlistEntry, at destination: String) throws -> (DirectoryHandle, [UInt8]) {
        let directory = open(destination, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if directory >= 0 { return (DirectoryHandle(directory), entry.name) }
        var path = Array(destination.utf8)
        let slash = path.lastIndex(of: UInt8(ascii: "/"))
        let name = Array(path[(slash.map { $0 + 1 } ?? 0)...])
        path.removeLast(name.count)
        let parent = withName(path.isEmpty ? [UInt8(ascii: ".")] : path) { open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard parent >= 0, !name.isEmpty else { throw ToolError.system(FlistPath.quoted(Array(destination.utf8))) }
        return (DirectoryHandle(parent), name)
    }

    /// Writes what can be written on this thread: all that is no file, files that are there already, and small ones when their chunks
    /// lie on this machine. Returns the others.
    func writeSmall(_ files: [ExtractTree.File]) throws -> [Job] {
        var jobs: [Job] = []
        for file in files {
            try checkGoesOn()
            do {
                guard file.entry.isFile else {
                    try makeNode(file)
                    continue
                }
                if try isKept(file) { continue }
                let refs = try flist.blocks(of: file.entry)
                guard refs.isEmpty || (direct != nil && refs.count <= FlistExtractor.smallBlocks) else {
                    jobs.append(Job(file: file, refs: refs))
                    continue
                }
                let target = try ExtractFile(file, flist: flist)
                for ref in refs { if let direct { try target.append(direct(ref)) } }
                try finish(target)
            } catch {
                try fail(file.path, error)
            }
        }
        return jobs
    }

    private func finish(_ target: ExtractFile) throws {
        guard target.written == target.entry.size else {
            throw FlistError(.badBlocks, "its blocks hold \(target.written) bytes, its size is \(target.entry.size)")
        }
        try finish(target.descriptor, target.entry)
        try target.complete()
        let bytes = target.written
        count {
            $0.files += 1
            $0.bytes += bytes
        }
    }

    /// Writes a file whose blocks come from afar, or of which there are many.
    func write(_ job: Job) async throws {
        do {
            try checkGoesOn()
            let target = try await threads.run { [flist] in try ExtractFile(job.file, flist: flist) }
            let block = UInt64(ChunkLimits.blockBytes)
            let isEven = UInt64(job.refs.count) == job.file.entry.size / block + (job.file.entry.size % block == 0 ? 0 : 1)
            if isEven, try await writeEven(job, to: target) { target.markWhole() } else { try await writeInOrder(job, to: target) }
            try await threads.run { try self.finish(target) }
        } catch {
            try fail(job.file.path, error)
        }
    }

    /// Each block where it belongs when all but the last are full.
    ///
    /// - Returns: `false` when one of them has another length.
    private func writeEven(_ job: Job, to target: ExtractFile) async throws -> Bool {
        try await withThrowingTaskGroup(of: Bool.self) { group in
            var running = 0
            var isEven = true
            for (index, ref) in job.refs.enumerated() {
                if running >= FlistExtractor.blocksInFlight {
                    isEven = try await group.next() ?? true
                    running -= 1
                }
                try checkGoesOn()
                guard isEven else { break }
                running += 1
                group.addTask { [direct, blocks, threads, slots] in
                    if let direct { return try await threads.run { try target.write(direct(ref), index: index) } }
                    await slots.take()
                    defer { slots.giveBack() }
                    let plain = try await blocks(ref)
                    return try await threads.run { try target.write(plain, index: index) }
                }
            }
            for try await one in group { isEven = isEven && one }
            return isEven
        }
    }

    /// One behind the other, however long each turns out to be.
    private func writeInOrder(_ job: Job, to target: ExtractFile) async throws {
        try await threads.run { try target.restart() }
        for ref in job.refs {
            try checkGoesOn()
            let plain = try await blocks(ref)
            try await threads.run { try target.append(plain) }
        }
    }

    // MARK: What is there already

    /// Whether the file is there as recorded; then mode and owner are set as they would be for a new one.
    private func isKept(_ file: ExtractTree.File) throws -> Bool {
        let at = file.directory.descriptor
        var status = stat()
        guard withName(file.name, { fstatat(at, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 else { return false }
        guard status.st_mode & S_IFMT == S_IFREG, UInt64(status.st_size) == file.entry.size,
            Int64(status.st_mtim.tv_sec) == file.entry.mtime || options.comparesContent
        else {
            throw ToolError("not written: something else is there already")
        }
        let opened = withName(file.name) { openat(at, $0, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) }
        guard opened >= 0 else {
            if options.comparesContent { throw ToolError.system("there already, and not readable") }
            count { $0.kept += 1 }
            return true
        }
        let handle = DirectoryHandle(opened)
        if options.comparesContent, try !hasContent(of: file.entry, handle.descriptor) {
            throw ToolError("not written: a file of other content is there already")
        }
        if status.st_mode & 0o7777 != permissions(file.entry) || options.owners
            || Int64(status.st_mtim.tv_sec) != file.entry.mtime
        {
            try finish(handle.descriptor, file.entry)
        }
        count { $0.kept += 1 }
        return true
    }

    /// Whether the open file holds what the blocks hold: by their keys, which are digests of the content. Nothing is fetched.
    private func hasContent(of entry: FlistEntry, _ descriptor: Int32) throws -> Bool {
        let refs = try flist.blocks(of: entry)
        let buffer = ChunkBuffer(capacity: ChunkLimits.blockBytes)
        var offset = 0
        for ref in refs {
            buffer.count = try FileBytes.read(
                descriptor, into: buffer.base, count: ChunkLimits.blockBytes, at: offset, what: "there already, and not readable")
            guard buffer.count > 0, buffer.withBytes({ BlockKey(ofPlain: $0, length: ref.key.length) }) == ref.key else { return false }
            offset += buffer.count
        }
        return UInt64(offset) == entry.size
    }

    /// Whether a link, fifo, socket or device is there as recorded.
    private func isKept(node file: ExtractTree.File) -> Bool {
        let at = file.directory.descriptor
        var status = stat()
        guard withName(file.name, { fstatat(at, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 else { return false }
        let type = status.st_mode & S_IFMT
        switch file.entry.kind {
        case .symlink(let target): return type == S_IFLNK && file.directory.target(of: file.name) == target
        case .fifo: return type == S_IFIFO
        case .socket: return type == S_IFSOCK
        case .charDevice(let major, let minor): return type == S_IFCHR && status.st_rdev == DeviceNumber.encoded(major: major, minor: minor)
        case .blockDevice(let major, let minor):
            return type == S_IFBLK && status.st_rdev == DeviceNumber.encoded(major: major, minor: minor)
        case .file, .directory: return false
        }
    }

    // MARK: Modes, owners, times

    /// The mode that is set: without set-id bits unless they are wanted.
    private func permissions(_ entry: FlistEntry) -> mode_t { mode_t(entry.permissions & (options.setIDs ? 0o7777 : 0o1777)) }

    func finish(_ descriptor: Int32, _ entry: FlistEntry) throws {
        // Owner first: changing it clears set-id bits.
        if options.owners, fchown(descriptor, entry.uid, entry.gid) != 0 { throw ToolError.system("owner cannot be set") }
        guard fchmod(descriptor, permissions(entry)) == 0 else { throw ToolError.system("mode cannot be set") }
        let time = timespec(tv_sec: Int(entry.mtime), tv_nsec: 0)
        guard withUnsafeBytes(of: (time, time), { futimens(descriptor, $0.baseAddress!.assumingMemoryBound(to: timespec.self)) }) == 0
        else {
            throw ToolError.system("time cannot be set")
        }
    }

    private func makeNode(_ file: ExtractTree.File) throws {
        let (entry, name, at) = (file.entry, file.name, file.directory.descriptor)
        let made: Int32
        switch entry.kind {
        case .symlink(let target): made = withName(target) { target in withName(name) { symlinkat(target, at, $0) } }
        case .fifo: made = withName(name) { mkfifoat(at, $0, 0o600) }
        case .socket: made = withName(name) { mknodat(at, $0, S_IFSOCK | 0o600, 0) }
        case .charDevice(let major, let minor), .blockDevice(let major, let minor):
            guard options.devices else { return add(note: "\(FlistPath.quoted(file.path)): device left out") }
            var type = S_IFBLK
            if case .charDevice = entry.kind { type = S_IFCHR }
            made = withName(name) { mknodat(at, $0, type | 0o600, dev_t(DeviceNumber.encoded(major: major, minor: minor))) }
        case .file, .directory: return
        }
        if made != 0, errno == EEXIST {
            guard isKept(node: file) else { throw ToolError("not made: something else is there already") }
            return count { $0.kept += 1 }
        }
        guard made == 0 else { throw ToolError.system("not made") }
        do {
            if options.owners, withName(name, { fchownat(at, $0, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW) }) != 0 {
                throw ToolError.system("owner cannot be set")
            }
            if case .symlink = entry.kind {
            } else {
                // The node was made here a moment ago, exclusively, and is no link.
                guard withName(name, { fchmodat(at, $0, permissions(entry), 0) }) == 0 else { throw ToolError.system("mode cannot be set") }
            }
            try setTime(entry, name: name, at: at)
        } catch {
            withName(name) { _ = unlinkat(at, $0, 0) }
            throw error
        }
        if case .symlink = entry.kind { count { $0.links += 1 } } else { count { $0.specials += 1 } }
    }

    private func setTime(_ entry: FlistEntry, name: [UInt8], at directory: Int32) throws {
        let time = timespec(tv_sec: Int(entry.mtime), tv_nsec: 0)
        let result = withUnsafeBytes(of: (time, time)) { times in
            withName(name) { utimensat(directory, $0, times.baseAddress!.assumingMemoryBound(to: timespec.self), AT_SYMLINK_NOFOLLOW) }
        }
        guard result == 0 else { throw ToolError.system("time cannot be set") }
    }
}
