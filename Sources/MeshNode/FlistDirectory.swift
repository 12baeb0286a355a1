internal import BlockingThreads
internal import ControlModel
internal import Flist
internal import Synchronization

/// A directory of an flist, as the API serves it.
struct FlistDirectory: ServedDirectory {
    /// Directories on the way to one whose links to directories are followed; deeper ones show theirs as links.
    static let maxTrail = 256
    /// Entries read at a time.
    static let pageEntries = 1024

    let flist: FlistFile
    let entry: FlistEntry
    /// The directory's path as the client wrote it.
    let path: [UInt8]
    let threads: BlockingThreads

    var mtime: Int64 { entry.mtime }
    func listing() -> any ServedListing { FlistDirectoryListing(of: self) }

    /// The inodes that the client's path leads through. A link to one of them is not listed as a directory: whoever walks the tree by
    /// listings would walk in circles. `nil` when there are too many.
    func trail() throws -> Set<Int64>? {
        var trail: Set = [flist.root().ino, entry.ino]
        var prefix: [UInt8] = []
        for component in path.split(separator: UInt8(ascii: "/")) where component != [UInt8(ascii: ".")] {
            prefix += [UInt8(ascii: "/")] + component
            guard trail.count <= Self.maxTrail else { return nil }
            trail.insert(try flist.resolve(prefix).ino)
        }
        return trail
    }
}

/// Reads the directory page by page.
final class FlistDirectoryListing: ServedListing {
    private struct Place {
        var after: Int64?
        var isOver = false
        var trail: Set<Int64>??
    }
    private let directory: FlistDirectory
    private let place = Mutex(Place())

    init(of directory: FlistDirectory) { self.directory = directory }

    func next() async throws -> [ServedChild]? {
        try await directory.threads.run { [self] in
            var now = place.withLock { $0 }
            guard !now.isOver else { return nil }
            let trail = try now.trail ?? directory.trail()
            now.trail = .some(trail)
            let page = try directory.flist.children(of: directory.entry.ino, after: now.after, limit: FlistDirectory.pageEntries)
            (now.after, now.isOver) = (page.next, page.next == nil)
            place.withLock { [now] in $0 = now }
            let children = page.entries.map { child($0, trail: trail) }
            return children.sorted { $0.name.lexicographicallyPrecedes($1.name) }
        }
    }

    private func child(_ entry: FlistEntry, trail: Set<Int64>?) -> ServedChild {
        var target = entry
        if case .symlink = entry.kind {
            let path = FlistPath.joined(directory.path, entry.name)
            guard let found = try? directory.flist.resolve(path) else {
                return ServedChild(name: entry.name, kind: .other("link that leads nowhere"), size: 0, mtime: entry.mtime)
            }
            guard !found.isDirectory || trail?.contains(found.ino) == false else {
                return ServedChild(name: entry.name, kind: .other("link to a directory above"), size: 0, mtime: entry.mtime)
            }
            target = found
        }
        let kind: ServedChild.Kind =
            switch target.kind {
            case .file: .file
            case .directory: .directory
            case .symlink: .other("link")
            case .fifo: .other("fifo")
            case .socket: .other("socket")
            case .charDevice, .blockDevice: .other("device")
            }
        return ServedChild(name: entry.name, kind: kind, size: target.isFile ? target.size : 0, mtime: target.mtime)
    }
}
