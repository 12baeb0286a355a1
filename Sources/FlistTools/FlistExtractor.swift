internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
public import Flist
internal import Glibc
internal import Synchronization

/// Copies an flist, or a part of it, into a directory.
///
/// Everything is created relative to directory descriptors, exclusively, and without following links, so nothing can land
/// outside the destination, whatever the flist says. A bad entry is named and left out, the rest goes on; a file that could
/// not be completed is removed.
public enum FlistExtractor {
    /// Files being written at once; each holds up to `blocksInFlight` decoded blocks (0.5 MB each as a rule, 2 MB at most).
    static let filesInFlight = 8
    static let blocksInFlight = 4
    /// Lines of `ExtractReport.problems` and `notes`; further ones are counted only.
    public static let maxLines = 10_000

    /// - Parameter progress: called after each block, from any thread.
    /// - Throws: `FlistError` when the path is not in the flist or the flist is damaged, `ToolError` when the destination cannot
    ///   be written to, `CancellationError`.
    public static func extract(
        _ flist: FlistFile, _ options: ExtractOptions, blocks: @escaping PlainBlockSource,
        progress: (@Sendable (ExtractProgress) -> Void)? = nil
    ) async throws -> ExtractReport {
        let threads = BlockingThreads(count: max(4, BlockingThreads.machineThreads))
        let run = ExtractRun(flist: flist, options: options, blocks: blocks, threads: threads, progress: progress)
        let start = try await threads.run {
            try flist.checkIntegrity()
            return try flist.resolve(options.path)
        }
        guard start.isDirectory else {
            let (handle, name) = try await threads.run { try ExtractRun.place(of: start, at: options.destination) }
            if let problem = await run.extract(start, name: name, in: handle, path: options.path) { run.add(problem: problem) }
            return run.report
        }

        let root = try await threads.run {
            if mkdir(options.destination, 0o700) != 0, errno != EEXIST {
                throw ToolError.system(FlistPath.quoted(Array(options.destination.utf8)))
            }
            let descriptor = open(options.destination, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard descriptor >= 0 else { throw ToolError.system(FlistPath.quoted(Array(options.destination.utf8))) }
            return DirectoryHandle(descriptor)
        }
        let tree = ExtractTree(run: run, root: root, start: start)
        try await withThrowingTaskGroup(of: Void.self) { group in
            var running = 0
            while let files = try await threads.run({ try tree.nextFiles() }) {
                for file in files {
                    if running >= filesInFlight {
                        try await group.next()
                        running -= 1
                    }
                    running += 1
                    try Task.checkCancellation()
                    group.addTask {
                        if let problem = await run.extract(file.entry, name: file.entry.name, in: file.directory, path: file.path) {
                            run.add(problem: problem)
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        try Task.checkCancellation()
        await threads.run { tree.finishDirectories() }
        return run.report
    }
}

/// The part of an extraction that its tasks share.
final class ExtractRun: Sendable {
    let flist: FlistFile
    let options: ExtractOptions
    private let blocks: PlainBlockSource
    private let threads: BlockingThreads
    private let progress: (@Sendable (ExtractProgress) -> Void)?
    private let state = Mutex(ExtractReport())

    init(
        flist: FlistFile, options: ExtractOptions, blocks: @escaping PlainBlockSource, threads: BlockingThreads,
        progress: (@Sendable (ExtractProgress) -> Void)?
    ) {
        (self.flist, self.options, self.blocks, self.threads, self.progress) = (flist, options, blocks, threads, progress)
    }

    var report: ExtractReport { state.withLock { $0 } }

    func count(_ change: @Sendable (inout ExtractReport) -> Void) { state.withLock { change(&$0) } }

    func add(problem: String) {
        state.withLock { report in
            report.problemCount += 1
            if report.problems.count < FlistExtractor.maxLines { report.problems.append(problem) }
        }
    }

    func add(note: String) {
        state.withLock { if $0.notes.count < FlistExtractor.maxLines { $0.notes.append(note) } }
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

    /// Writes one entry that is no directory.
    ///
    /// - Returns: what went wrong, as a line; the entry is not there then, unless the line says otherwise.
    func extract(_ entry: FlistEntry, name: [UInt8], in directory: DirectoryHandle, path: [UInt8]) async -> String? {
        do {
            if entry.isFile {
                try await extractFile(entry, name: name, in: directory)
            } else {
                try await threads.run { try self.makeNode(entry, name: name, in: directory, path: path) }
            }
            return nil
        } catch let error as FlistError {
            return "\(FlistPath.quoted(path)): \(error.message)"
        } catch {
            return "\(FlistPath.quoted(path)): \(error)"
        }
    }

    private func extractFile(_ entry: FlistEntry, name: [UInt8], in directory: DirectoryHandle) async throws {
        let (refs, file) = try await threads.run { [flist] in
            let refs = try flist.blocks(of: entry)
            let descriptor = withName(name) {
                openat(directory.descriptor, $0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
            }
            guard descriptor >= 0 else { throw ToolError.system("not written") }
            return (refs, DirectoryHandle(descriptor))
        }
        do {
            try await write(refs, of: entry, to: file)
            try await threads.run { try self.finish(file.descriptor, entry) }
        } catch {
            withName(name) { _ = unlinkat(directory.descriptor, $0, 0) }
            throw error
        }
        count { $0.files += 1 }
    }

    /// Fetches a few blocks ahead, and writes them in order one behind the other, however long each turns out to be.
    private func write(_ refs: [BlockRef], of entry: FlistEntry, to file: DirectoryHandle) async throws {
        var written: UInt64 = 0
        try await withThrowingTaskGroup(of: (Int, ChunkBuffer).self) { group in
            var arrived: [Int: ChunkBuffer] = [:]
            var asked = 0
            for next in refs.indices {
                while asked < min(refs.count, next + FlistExtractor.blocksInFlight) {
                    let (index, ref) = (asked, refs[asked])
                    group.addTask { [blocks] in (index, try await blocks(ref)) }
                    asked += 1
                }
                while arrived[next] == nil, let (index, buffer) = try await group.next() { arrived[index] = buffer }
                guard let buffer = arrived.removeValue(forKey: next) else { throw CancellationError() }
                guard UInt64(buffer.count) <= entry.size - written else {
                    throw FlistError(.badBlocks, "its blocks hold more than its size of \(entry.size) bytes")
                }
                let offset = Int(written)
                try await threads.run {
                    try buffer.withBytes { try FileBytes.write($0, to: file.descriptor, at: offset, what: "not written") }
                }
                written += UInt64(buffer.count)
                let added = UInt64(buffer.count)
                let state = state.withLock { report in
                    report.bytes += added
                    return ExtractProgress(files: report.files, bytes: report.bytes)
                }
                progress?(state)
            }
        }
        guard written == entry.size else {
            throw FlistError(.badBlocks, "its blocks hold \(written) bytes, its size is \(entry.size)")
        }
    }

    /// The mode that is set: without set-id bits unless they are wanted.
    func permissions(_ entry: FlistEntry) -> mode_t { mode_t(entry.permissions & (options.setIDs ? 0o7777 : 0o1777)) }

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

    private func makeNode(_ entry: FlistEntry, name: [UInt8], in directory: DirectoryHandle, path: [UInt8]) throws {
        let at = directory.descriptor
        let made: Int32
        switch entry.kind {
        case .symlink(let target): made = withName(target) { target in withName(name) { symlinkat(target, at, $0) } }
        case .fifo: made = withName(name) { mkfifoat(at, $0, 0o600) }
        case .socket: made = withName(name) { mknodat(at, $0, S_IFSOCK | 0o600, 0) }
        case .charDevice(let major, let minor), .blockDevice(let major, let minor):
            guard options.devices else {
                add(note: "\(FlistPath.quoted(path)): device left out")
                return
            }
            var type = S_IFBLK
            if case .charDevice = entry.kind { type = S_IFCHR }
            made = withName(name) { mknodat(at, $0, type | 0o600, Self.device(major, minor)) }
        case .file, .directory: return
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

    /// glibc's dev_t (FORMATS.md §1.2).
    private static func device(_ major: UInt32, _ minor: UInt32) -> dev_t {
        let (major, minor) = (UInt64(major), UInt64(minor))
        return dev_t((major & ~0xfff) << 32 | (major & 0xfff) << 8 | (minor & ~0xff) << 12 | (minor & 0xff))
    }

    private func setTime(_ entry: FlistEntry, name: [UInt8], at directory: Int32) throws {
        let time = timespec(tv_sec: Int(entry.mtime), tv_nsec: 0)
        let result = withUnsafeBytes(of: (time, time)) { times in
            withName(name) { utimensat(directory, $0, times.baseAddress!.assumingMemoryBound(to: timespec.self), AT_SYMLINK_NOFOLLOW) }
        }
        guard result == 0 else { throw ToolError.system("time cannot be set") }
    }
}
