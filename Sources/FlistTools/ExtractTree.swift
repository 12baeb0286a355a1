internal import Flist
internal import Glibc
internal import Synchronization

/// Walks the flist and makes its directories; all else is handed out to be written. Blocking; one caller at a time.
final class ExtractTree: Sendable {
    /// Entries handed out at once: they keep their directories open meanwhile.
    private static let batch = 64

    struct File: Sendable {
        let entry: FlistEntry
        /// The entry's own, but for a single file that becomes another.
        let name: [UInt8]
        let directory: DirectoryHandle
        let path: [UInt8]
    }

    private struct State {
        var walker: FlistWalker
        var handles: DirectoryHandles
        /// The walk's number of a directory → ours; -1 for those that could not be made.
        var numbers: [Int32] = [0]
        /// The inodes of our numbers, in order of making: the rest is looked up again at the end.
        var inos: [Int64]
    }

    private let run: ExtractRun
    private let start: FlistEntry
    private let state: Mutex<State>

    init(run: ExtractRun, root: DirectoryHandle, start: FlistEntry) {
        (self.run, self.start) = (run, start)
        let path = run.options.path.isEmpty ? [UInt8(ascii: "/")] : run.options.path
        state = Mutex(
            State(
                walker: FlistWalker(run.flist, below: start, path: path), handles: DirectoryHandles(root: root), inos: [start.ino]))
    }

    /// The next entries to be written, whose directories exist; `nil` at the end.
    func nextFiles() throws -> [File]? {
        try state.withLock { state in
            var files: [File] = []
            while files.count < Self.batch {
                try run.checkGoesOn()
                guard let item = try state.walker.next() else { return files.isEmpty ? nil : files }
                switch item {
                case .problem(let problem): run.add(problem: problem.line)
                case .entry(let visit): if let file = try place(visit, &state) { files.append(file) }
                }
            }
            return files
        }
    }

    private func place(_ visit: FlistWalker.Visit, _ state: inout State) throws -> File? {
        if let number = visit.number { while state.numbers.count <= number { state.numbers.append(-1) } }
        let parent = Int(state.numbers[visit.directory])
        guard parent >= 0 else {
            run.add(problem: "\(FlistPath.quoted(visit.path)): left out with its directory")
            return nil
        }
        do {
            let handle = try state.handles.handle(parent)
            guard let walkNumber = visit.number else {
                return File(entry: visit.entry, name: visit.entry.name, directory: handle, path: visit.path)
            }
            // Closed to others and open to us until the end, whatever its mode will be. One that is there already is used when
            // it is a real directory.
            if withName(visit.entry.name, { mkdirat(handle.descriptor, $0, 0o700) }) != 0, errno != EEXIST {
                throw ToolError.system("not made")
            }
            // One from before may be closed to us too.
            let opened = withName(visit.entry.name) { name in
                if faccessat(handle.descriptor, name, R_OK | W_OK | X_OK, 0) != 0, Self.isDirectory(handle.descriptor, name) {
                    fchmodat(handle.descriptor, name, 0o700, 0)
                }
                return openat(handle.descriptor, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            }
            guard opened >= 0 else { throw ToolError.system("not a directory that can be written to") }
            close(opened)
            let number = state.handles.add(visit.entry.name, in: parent)
            state.numbers[walkNumber] = Int32(number)
            state.inos.append(visit.entry.ino)
            run.count { $0.directories += 1 }
        } catch {
            try run.fail(visit.path, error)
        }
        return nil
    }

    private static func isDirectory(_ directory: Int32, _ name: UnsafePointer<CChar>) -> Bool {
        var status = stat()
        return fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Owners, modes and times of directories, deepest first, once nothing changes in them any more.
    func finishDirectories() throws {
        try state.withLock { state in
            for number in state.inos.indices.reversed() {
                do {
                    guard let entry = number == 0 ? start : try run.flist.inode(state.inos[number]) else { continue }
                    try run.finish(try state.handles.handle(number).descriptor, entry)
                } catch {
                    try run.fail(number == 0 ? run.options.path : state.handles.path(number), error)
                }
            }
        }
    }
}
