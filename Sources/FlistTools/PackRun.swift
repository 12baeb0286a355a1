internal import BlockingThreads
internal import ChunkModel
internal import Flist
internal import Glibc

/// One run of `FlistPacker`; a thread of its own reads, the pipeline's threads encode.
final class PackRun {
    private let options: PackOptions
    private let root: DirectoryHandle
    private let writer: FlistWriter
    private let tally: Tally
    private var handles: DirectoryHandles
    private let pipeline: EncodePipeline
    private let progress: ((PackProgress) throws -> Void)?
    /// Files that must not be packed since this run writes them: (device, inode).
    private var own: Set<[UInt64]> = []
    private var nextIno: Int64 = 2

    /// What the deliveries of the pipeline add to.
    private final class Tally {
        var report = PackReport()
        var state = PackProgress()
        /// Files given up half-way, whose blocks are not recorded.
        var dropped: Set<Int64> = []
    }

    private struct Directory {
        let number: Int
        let parentIno: Int64
        let name: [UInt8]
        let path: [UInt8]
    }

    init(_ options: PackOptions, root: DirectoryHandle, temporary: String, progress: ((PackProgress) throws -> Void)?) throws {
        self.options = options
        self.root = root
        self.progress = progress
        handles = DirectoryHandles(root: root)
        let writer = try FlistWriter(path: temporary)
        self.writer = writer
        let tally = Tally()
        self.tally = tally
        pipeline = EncodePipeline(workers: options.workers ?? BlockingThreads.machineThreads, stores: options.stores) { ino, done in
            tally.report.newChunks += done.stored
            tally.report.newBytes += UInt64(done.stored * done.storedBytes)
            guard !tally.dropped.contains(ino) else { return }
            try writer.add(done.ref, to: ino)
            tally.report.blocks += 1
        }
        for path in [temporary, options.output] + options.stores.compactMap({ ($0.sink as? DirStore)?.path }) {
            var status = stat()
            if stat(path, &status) == 0 { own.insert([UInt64(status.st_dev), UInt64(status.st_ino)]) }
        }
    }

    func run() throws -> PackReport {
        let routes =
            options.routes.isEmpty ? options.stores.map { Route(range: ChunkRange(firstBytes: $0.range), url: $0.url) } : options.routes
        for route in routes {
            try writer.add(route: Route(range: route.range, url: options.keepPasswords ? route.url : PackStore.withoutPassword(route.url)))
        }
        for tag in options.tags { try writer.add(tag: tag) }
        if progress != nil { tally.state.bytesTotal = try measure() }

        handles = DirectoryHandles(root: root)
        var pending = [Directory(number: 0, parentIno: 0, name: [UInt8(ascii: "/")], path: [])]
        while let directory = pending.popLast() {
            let below = try pack(directory)
            pending.append(contentsOf: below.reversed())
        }
        try pipeline.drain()
        for ino in tally.dropped.sorted() { try writer.removeBlocks(of: ino) }
        try writer.finish()
        return tally.report
    }

    /// The directory's row, and the rows of all in it but its sub-directories, which are returned.
    private func pack(_ directory: Directory) throws -> [Directory] {
        let names: [[UInt8]]
        var status = stat()
        let handle: DirectoryHandle
        do {
            handle = try handles.handle(directory.number)
            guard fstat(handle.descriptor, &status) == 0 else { throw ToolError.system("directory") }
            names = try Self.names(in: handle)
        } catch let error as ToolError {
            if directory.number == 0 { throw ToolError("\(FlistPath.quoted(Array(options.directory.utf8))): \(error)") }
            problem(directory.path, "left out: \(error)")
            return []
        }
        let ino = directory.number == 0 ? 1 : takeIno()
        try add(row(ino, directory.parentIno, directory.name, status, size: 4096), path: directory.path)

        var below: [Directory] = []
        for name in names {
            let path = directory.path.isEmpty ? name : FlistPath.joined(directory.path, name)
            var status = stat()
            guard withName(name, { fstatat(handle.descriptor, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 else {
                problem(path, "left out: \(String(cString: strerror(errno)))")
                continue
            }
            if own.contains([UInt64(status.st_dev), UInt64(status.st_ino)]) {
                note(path, "left out: packing itself writes it")
                continue
            }
            if String(validating: name, as: UTF8.self) == nil {
                note(path, "the name is not UTF-8; it is kept as it is, but rfs itself cannot list it")
            }
            switch status.st_mode & S_IFMT {
            case S_IFDIR:
                below.append(Directory(number: handles.add(name, in: directory.number), parentIno: ino, name: name, path: path))
            case S_IFREG: try packFile(name, in: handle, parent: ino, path: path)
            case S_IFLNK:
                guard let target = Self.target(of: name, in: handle) else {
                    problem(path, "left out: the link cannot be read")
                    continue
                }
                var link = row(takeIno(), ino, name, status, size: Int64(target.count))
                link.target = target
                try add(link, path: path)
            default:
                var special = row(takeIno(), ino, name, status, size: 0)
                if [S_IFCHR, S_IFBLK].contains(status.st_mode & S_IFMT) { special.rdev = UInt64(status.st_rdev) }
                try add(special, path: path)
            }
        }
        return below
    }

    private func packFile(_ name: [UInt8], in handle: DirectoryHandle, parent: Int64, path: [UInt8]) throws {
        let file = withName(name) { openat(handle.descriptor, $0, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) }
        guard file >= 0 else {
            problem(path, "left out: \(String(cString: strerror(errno)))")
            return
        }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            problem(path, "left out: no longer a regular file")
            return
        }
        let ino = takeIno()
        let expected = Int(status.st_size)
        var size = 0
        while size < expected {
            let buffer = pipeline.pool.take()
            let wanted = min(ChunkLimits.blockBytes, expected - size)
            do {
                buffer.count = try FileBytes.read(file, into: buffer.base, count: wanted, at: size, what: "left out")
            } catch let error as ToolError {
                tally.dropped.insert(ino)
                problem(path, error.message)
                return
            }
            if buffer.count > 0 { try pipeline.add(buffer, of: ino) }
            size += buffer.count
            tally.state.bytesDone += UInt64(buffer.count)
            try progress?(tally.state)
            if buffer.count < wanted { break }
        }
        var more: UInt8 = 0
        if size < expected {
            problem(path, "became shorter while it was read: \(size) of \(expected) bytes are packed")
        } else if pread(file, &more, 1, off_t(size)) > 0 {
            problem(path, "became longer while it was read: its first \(size) bytes are packed")
        }
        try add(row(ino, parent, name, status, size: Int64(size)), path: path)
        tally.report.files += 1
        tally.report.bytes += UInt64(size)
    }

    private func takeIno() -> Int64 {
        defer { nextIno += 1 }
        return nextIno
    }

    private func add(_ row: FlistWriter.Row, path: [UInt8]) throws {
        try writer.add(row)
        tally.report.entries += 1
        tally.state.entries += 1
        try progress?(tally.state)
    }

    private func row(_ ino: Int64, _ parent: Int64, _ name: [UInt8], _ status: stat, size: Int64) -> FlistWriter.Row {
        FlistWriter.Row(
            ino: ino, parent: parent, name: name, size: size, uid: status.st_uid, gid: status.st_gid, mode: status.st_mode, rdev: 0,
            mtime: Int64(status.st_mtim.tv_sec), target: nil)
    }

    private func problem(_ path: [UInt8], _ text: String) {
        tally.report.problemCount += 1
        if tally.report.problems.count < FlistPacker.maxLines { tally.report.problems.append("\(FlistPath.quoted(path)): \(text)") }
    }

    private func note(_ path: [UInt8], _ text: String) {
        if tally.report.notes.count < FlistPacker.maxLines { tally.report.notes.append("\(FlistPath.quoted(path)): \(text)") }
    }

    /// Bytes of all regular files, for the progress; what cannot be read is reported later.
    private func measure() throws -> UInt64 {
        var total: UInt64 = 0
        var pending = [0]
        while let number = pending.popLast() {
            guard let handle = try? handles.handle(number), let names = try? Self.names(in: handle) else { continue }
            for name in names {
                var status = stat()
                guard withName(name, { fstatat(handle.descriptor, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0,
                    !own.contains([UInt64(status.st_dev), UInt64(status.st_ino)])
                else { continue }
                if status.st_mode & S_IFMT == S_IFREG { total += UInt64(max(0, status.st_size)) }
                if status.st_mode & S_IFMT == S_IFDIR { pending.append(handles.add(name, in: number)) }
            }
        }
        return total
    }

    /// The names in a directory in order of their bytes.
    private static func names(in handle: DirectoryHandle) throws -> [[UInt8]] {
        let again = openat(handle.descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard again >= 0 else { throw ToolError.system("directory") }
        guard let stream = fdopendir(again) else {
            close(again)
            throw ToolError.system("directory")
        }
        defer { closedir(stream) }
        var names: [[UInt8]] = []
        errno = 0
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name != [UInt8(ascii: ".")], name != Array("..".utf8) { names.append(name) }
            errno = 0
        }
        guard errno == 0 else { throw ToolError.system("directory") }
        return names.sorted { $0.lexicographicallyPrecedes($1) }
    }

    private static func target(of name: [UInt8], in handle: DirectoryHandle) -> [UInt8]? {
        var buffer = [CChar](repeating: 0, count: 4097)
        let count = withName(name) { readlinkat(handle.descriptor, $0, &buffer, buffer.count) }
        guard count > 0, count < buffer.count else { return nil }
        return buffer.prefix(count).map { UInt8(bitPattern: $0) }
    }
}
