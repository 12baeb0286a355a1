internal import ChunkModel
internal import Flist
internal import Glibc
internal import LocalFiles

/// One run of `FlistPacker`: reads the tree, and gives rows and blocks to the session.
final class PackRun {
    private let options: PackOptions
    private let root: DirectoryHandle
    private let session: PackSession
    private var handles: DirectoryHandles
    private let progress: ((PackProgress) throws -> Void)?
    /// Files that must not be packed since this run writes them: (device, inode).
    private var own: Set<[UInt64]> = []
    private var report = PackReport()
    private var state = PackProgress()

    private struct Directory {
        let number: Int
        let parentIno: Int64
    }

    init(_ options: PackOptions, root: DirectoryHandle, session: PackSession, progress: ((PackProgress) throws -> Void)?) {
        (self.options, self.root, self.session, self.progress) = (options, root, session, progress)
        handles = DirectoryHandles(root: root)
        for path in session.ownPaths + options.session.stores.compactMap({ ($0.sink as? DirStore)?.path }) {
            var status = stat()
            if stat(path, &status) == 0 { own.insert([UInt64(status.st_dev), UInt64(status.st_ino)]) }
        }
    }

    func run() throws -> PackReport {
        if let progress { session.check = { [unowned self] in try progress(state) } }
        if options.measuresFirst, progress != nil { state.bytesTotal = try measure() }

        handles = DirectoryHandles(root: root)
        var pending = [Directory(number: 0, parentIno: 0)]
        while let directory = pending.popLast() {
            let below = try pack(directory)
            handles.release(directory.number)
            pending.append(contentsOf: below.reversed())
        }
        try session.drain()
        try packAbsent()
        try session.drain()
        report.blocks = session.totals.blocks
        report.newChunks = session.totals.newChunks
        report.newBytes = session.totals.newBytes
        return report
    }

    /// The directory's row, and the rows of all in it but its sub-directories, which are returned.
    private func pack(_ directory: Directory) throws -> [Directory] {
        let isRoot = directory.number == 0
        let directoryPath = handles.path(directory.number)
        let names: [[UInt8]]
        var status = stat()
        let handle: DirectoryHandle
        do {
            handle = try handles.handle(directory.number)
            guard fstat(handle.descriptor, &status) == 0 else { throw ToolError.system("directory") }
            names = try handle.names()
        } catch let error as ToolError {
            if isRoot { throw ToolError("\(FlistPath.quoted(Array(options.directory.utf8))): \(error)") }
            problem(directoryPath, "left out: \(error)")
            return []
        }
        let ino = isRoot ? 1 : session.takeIno()
        try add(row(ino, directory.parentIno, isRoot ? [UInt8(ascii: "/")] : handles.name(directory.number), status, size: 4096))

        var below: [Directory] = []
        for name in names {
            let path = directoryPath.isEmpty ? name : FlistPath.joined(directoryPath, name)
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
            case S_IFDIR: below.append(Directory(number: handles.add(name, in: directory.number), parentIno: ino))
            case S_IFREG: try packFile(name, in: handle, parent: ino, path: path)
            case S_IFLNK:
                guard let target = handle.target(of: name) else {
                    problem(path, "left out: the link cannot be read")
                    continue
                }
                var link = row(session.takeIno(), ino, name, status, size: Int64(target.count))
                link.target = target
                try add(link)
            default:
                var special = row(session.takeIno(), ino, name, status, size: 0)
                if [S_IFCHR, S_IFBLK].contains(status.st_mode & S_IFMT) { special.rdev = UInt64(status.st_rdev) }
                try add(special)
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
        let ino = session.takeIno()
        let size: Int
        if let key = session.journalKey(path, status) {
            // A record that does not add up is none.
            let blocks = (Int(status.st_size) + ChunkLimits.blockBytes - 1) / ChunkLimits.blockBytes
            if let refs = session.journalled(key), refs.count == blocks {
                for ref in refs { try session.add(journalled: ref, of: ino) }
                size = Int(status.st_size)
                state.bytesDone += UInt64(size)
                report.resumedFiles += 1
            } else {
                guard let read = try packContent(file, Int(status.st_size), ino, path) else { return }
                size = read
                var after = stat()
                if fstat(file, &after) == 0, session.journalKey(path, after) == key { try session.end(ino, key) }
            }
        } else {
            guard let read = try packContent(file, Int(status.st_size), ino, path) else { return }
            size = read
        }
        try add(row(ino, parent, name, status, size: Int64(size)))
        report.files += 1
        report.bytes += UInt64(size)
    }

    /// - Returns: how many bytes were packed; `nil` when the file was given up.
    private func packContent(_ file: Int32, _ expected: Int, _ ino: Int64, _ path: [UInt8]) throws -> Int? {
        var size = 0
        while size < expected {
            let buffer = session.pool.take()
            let wanted = min(ChunkLimits.blockBytes, expected - size)
            do {
                buffer.count = try FileBytes.read(file, into: buffer.base, count: wanted, at: size, what: "left out")
            } catch let error as ToolError {
                session.dropBlocks(of: ino)
                problem(path, error.message)
                return nil
            }
            if buffer.count > 0 { try session.add(buffer, of: ino) }
            size += buffer.count
            state.bytesDone += UInt64(buffer.count)
            try progress?(state)
            if buffer.count < wanted { break }
        }
        var more: UInt8 = 0
        if size < expected {
            problem(path, "became shorter while it was read: \(size) of \(expected) bytes are packed")
        } else if pread(file, &more, 1, off_t(size)) > 0 {
            problem(path, "became longer while it was read: its first \(size) bytes are packed")
        }
        return size
    }

    /// Files that the journal knew, but whose chunks have left the stores since: read again.
    private func packAbsent() throws {
        for (ino, path) in try session.takeAbsent() {
            var names = path.split(separator: UInt8(ascii: "/")).map { Array($0) }
            guard let name = names.popLast() else { continue }
            var status = stat()
            var file: Int32 = -1
            if let handle = try? names.reduce(root, { try $0.below($1) }) {
                file = withName(name) { openat(handle.descriptor, $0, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) }
            }
            report.resumedFiles -= 1
            guard file >= 0, fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
                if file >= 0 { close(file) }
                try session.setSize(0, of: ino)
                problem(path, "was removed while the tree was packed: it is empty in the flist")
                continue
            }
            defer { close(file) }
            let size = try packContent(file, Int(status.st_size), ino, path) ?? 0
            try session.setSize(Int64(size), of: ino)
        }
    }

    private func add(_ row: FlistWriter.Row) throws {
        try session.add(row)
        report.entries += 1
        state.entries += 1
        try progress?(state)
    }

    private func row(_ ino: Int64, _ parent: Int64, _ name: [UInt8], _ status: stat, size: Int64) -> FlistWriter.Row {
        FlistWriter.Row(
            ino: ino, parent: parent, name: name, size: size, uid: status.st_uid, gid: status.st_gid, mode: status.st_mode,
            mtime: Int64(status.st_mtim.tv_sec))
    }

    private func problem(_ path: [UInt8], _ text: String) {
        report.problemCount += 1
        if report.problems.count < FlistPacker.maxLines { report.problems.append("\(FlistPath.quoted(path)): \(text)") }
    }

    private func note(_ path: [UInt8], _ text: String) {
        if report.notes.count < FlistPacker.maxLines { report.notes.append("\(FlistPath.quoted(path)): \(text)") }
    }

    /// Bytes of all regular files, for the progress; what cannot be read is reported later.
    private func measure() throws -> UInt64 {
        var total: UInt64 = 0
        var pending = [0]
        while let number = pending.popLast() {
            defer { handles.release(number) }
            try progress?(state)
            guard let handle = try? handles.handle(number), let names = try? handle.names() else { continue }
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
}
