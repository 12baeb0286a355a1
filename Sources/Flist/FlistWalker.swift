/// Goes through a directory and all below it, parents first, in the same order each time; blocks, like `FlistFile`.
///
/// Nothing recurses and nothing can be reached twice: each inode has one parent row, and no row can be the root's parent.
/// Memory: the directories that are still to be visited, and the names (hashed) of the current one.
public struct FlistWalker: Sendable {
    public enum Item: Sendable {
        case entry(Visit)
        case problem(EntryProblem)
    }

    /// An entry, and where it hangs.
    public struct Visit: Sendable {
        public let entry: FlistEntry
        /// The number that the walk gave to the entry's directory; the start has 0.
        public let directory: Int
        /// The number that the walk gave to the entry itself, when it is a directory; they count up from 1.
        public let number: Int?
        /// The path of the entry's directory, seen from the flist's root or from the path that the walk began with.
        public let directoryPath: [UInt8]
        public var path: [UInt8] { FlistPath.joined(directoryPath, entry.name) }
    }

    private struct Pending {
        let ino: Int64
        let number: Int
        let path: [UInt8]
        let depth: Int
    }

    private let flist: FlistFile
    private var pending: [Pending]
    private var found: [Pending] = []
    private var current: (directory: Pending, reader: FlistDirectoryReader)?
    private var queue: [Item] = []
    private var queueStart = 0
    private var directories = 1

    /// - Parameter start: a directory; it is not itself among the items.
    public init(_ flist: FlistFile, below start: FlistEntry, path: [UInt8] = [UInt8(ascii: "/")]) {
        self.flist = flist
        pending = start.isDirectory ? [Pending(ino: start.ino, number: 0, path: path, depth: 0)] : []
    }

    /// The next item; `nil` after the last one.
    public mutating func next() throws(FlistError) -> Item? {
        while queueStart == queue.count {
            queue.removeAll(keepingCapacity: true)
            queueStart = 0
            if current == nil {
                pending.append(contentsOf: found.reversed())
                found.removeAll()
                guard let directory = pending.popLast() else { return nil }
                current = (directory, FlistDirectoryReader(flist: flist, directory: directory.ino))
            }
            try readPage()
        }
        defer { queueStart += 1 }
        return queue[queueStart]
    }

    private mutating func readPage() throws(FlistError) {
        guard let directory = current?.directory, var reader = current?.reader else { return }
        let page = try reader.next(limit: 512)
        current = page.next == nil ? nil : (directory, reader)
        for problem in page.problems { queue.append(.problem(problem.inside(directory.path))) }
        for entry in page.entries {
            var number: Int?
            if entry.isDirectory {
                guard directory.depth < FlistFile.maxDepth else {
                    let problem = EntryProblem(
                        ino: entry.ino, path: entry.name, reason: "nested deeper than \(FlistFile.maxDepth) directories")
                    queue.append(.problem(problem.inside(directory.path)))
                    continue
                }
                number = directories
                found.append(
                    Pending(
                        ino: entry.ino, number: directories, path: FlistPath.joined(directory.path, entry.name), depth: directory.depth + 1)
                )
                directories += 1
            } else if let orphan = try flist.withConnection({ try $0.childNumbers(of: entry.ino, after: nil, limit: 1).first }) {
                let problem = EntryProblem(
                    ino: orphan, path: entry.name, reason: "has entries below it, but is not a directory; they are left out")
                queue.append(.problem(problem.inside(directory.path)))
            }
            queue.append(.entry(Visit(entry: entry, directory: directory.number, number: number, directoryPath: directory.path)))
        }
    }
}
