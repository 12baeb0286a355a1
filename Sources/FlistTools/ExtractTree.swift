internal import Flist
internal import Glibc
internal import Synchronization

/// Walks the flist and makes its directories; all else is handed out to be written. Blocking; one caller at a time.
final class ExtractTree: Sendable {
    /// Entries handed out at once: they keep their directories open meanwhile.
    private static let batch = 64

    struct File: Sendable {
        let entry: FlistEntry
        let directory: DirectoryHandle
        let path: [UInt8]
    }

    private struct State {
        var walker: FlistWalker
        var handles: DirectoryHandles
        /// The walk's number of a directory → ours; absent for those that could not be made.
        var numbers: [Int: Int] = [0: 0]
        /// In order of making, the start first: (number, entry, path).
        var made: [(number: Int, entry: FlistEntry, path: [UInt8])] = []
    }

    private let run: ExtractRun
    private let state: Mutex<State>

    init(run: ExtractRun, root: DirectoryHandle, start: FlistEntry) {
        self.run = run
        let path = run.options.path.isEmpty ? [UInt8(ascii: "/")] : run.options.path
        var state = State(walker: FlistWalker(run.flist, below: start, path: path), handles: DirectoryHandles(root: root))
        state.made.append((0, start, path))
        self.state = Mutex(state)
    }

    /// The next entries to be written, whose directories exist; `nil` at the end.
    func nextFiles() throws -> [File]? {
        try state.withLock { state in
            var files: [File] = []
            while files.count < Self.batch {
                guard let item = try state.walker.next() else { return files.isEmpty ? nil : files }
                switch item {
                case .problem(let problem): run.add(problem: problem.line)
                case .entry(let visit): if let file = place(visit, &state) { files.append(file) }
                }
            }
            return files
        }
    }

    private func place(_ visit: FlistWalker.Visit, _ state: inout State) -> File? {
        guard let parent = state.numbers[visit.directory] else {
            run.add(problem: "\(FlistPath.quoted(visit.path)): left out with its directory")
            return nil
        }
        do {
            let handle = try state.handles.handle(parent)
            guard let walkNumber = visit.number else { return File(entry: visit.entry, directory: handle, path: visit.path) }
            // Closed to others and open to us until the end, whatever its mode will be. One that is there already is used when
            // it is a real directory.
            if withName(visit.entry.name, { mkdirat(handle.descriptor, $0, 0o700) }) != 0, errno != EEXIST {
                throw ToolError.system("not made")
            }
            let number = state.handles.add(visit.entry.name, in: parent)
            _ = try state.handles.handle(number)
            state.numbers[walkNumber] = number
            state.made.append((number, visit.entry, visit.path))
            run.count { $0.directories += 1 }
        } catch {
            run.add(problem: "\(FlistPath.quoted(visit.path)): \(error)")
        }
        return nil
    }

    /// Owners, modes and times of directories, deepest first, once nothing changes in them any more.
    func finishDirectories() {
        state.withLock { state in
            for (number, entry, path) in state.made.reversed() {
                do {
                    try run.finish(try state.handles.handle(number).descriptor, entry)
                } catch {
                    run.add(problem: "\(FlistPath.quoted(path)): \(error)")
                }
            }
        }
    }
}
