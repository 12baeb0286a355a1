internal import Flist

extension LayerTree {
    /// Entries read from the tree at once.
    private static let pageEntries = 1024

    /// An entry that is seen in the end.
    struct Found {
        /// The tree's own number, higher than that of its directory.
        var id: Int64
        /// The layer that it is of.
        var layer: Int64
        /// What the caller gave its directory; 0 for the root.
        var parentIno: Int64
        var name: [UInt8]
        /// From the root, without a slash in front.
        var path: [UInt8]
        var entry: Entry

        /// As the row of the inode `ino`.
        func row(_ ino: Int64) -> FlistWriter.Row {
            let type: UInt32 =
                switch entry.kind {
                case .file: 0o100000
                case .directory, .nothing: 0o040000
                case .symlink: 0o120000
                case .fifo: 0o010000
                case .socket: 0o140000
                case .charDevice: 0o020000
                case .blockDevice: 0o060000
                }
            let bytes: Int64 =
                switch entry.kind {
                case .file: Int64(clamping: entry.size)
                case .directory, .nothing: 4096
                case .symlink: Int64(entry.target?.count ?? 0)
                case .fifo, .socket, .charDevice, .blockDevice: 0
                }
            return FlistWriter.Row(
                ino: ino, parent: parentIno, name: name, size: bytes, uid: entry.uid, gid: entry.gid,
                mode: type | UInt32(entry.permissions),
                rdev: entry.rdev, mtime: entry.mtime, ctime: entry.ctime, target: entry.target)
        }
    }

    /// Goes through all that is seen in the order in which packing would: a directory, its entries by name, then its sub-directories.
    ///
    /// - Parameters:
    ///   - check: called for each page of entries.
    ///   - body: what it returns for a directory is told as `parentIno` of its entries.
    func walk(check: () throws -> Void = {}, _ body: (Found) throws -> Int64) throws {
        var pending = [
            Found(id: Self.root, layer: 0, parentIno: 0, name: [UInt8(ascii: "/")], path: [], entry: try rootEntry())
        ]
        while let directory = pending.popLast() {
            let ino = try body(directory)
            var below: [Found] = []
            var after: [UInt8] = []
            while true {
                try check()
                let page = try entries(of: directory.id, after: after, limit: Self.pageEntries)
                for (name, id, entry, top) in page {
                    let path = directory.path.isEmpty ? name : FlistPath.joined(directory.path, name)
                    let found = Found(id: id, layer: top, parentIno: ino, name: name, path: path, entry: entry)
                    if entry.kind == .directory { below.append(found) } else { _ = try body(found) }
                }
                guard page.count == Self.pageEntries, let last = page.last else { break }
                after = last.name
            }
            pending.append(contentsOf: below.reversed())
        }
    }
}

/// Sums over what was written of a tree.
struct WrittenTree {
    /// The root too.
    var entries = 0
    var files = 0
    var directories = 0
    var bytes: UInt64 = 0

    mutating func count(_ entry: LayerTree.Entry) {
        entries += 1
        switch entry.kind {
        case .directory: directories += 1
        case .file:
            files += 1
            let (sum, overflow) = bytes.addingReportingOverflow(entry.size)
            bytes = overflow ? .max : sum
        case .nothing, .symlink, .fifo, .socket, .charDevice, .blockDevice: break
        }
    }
}

extension LayerTree.Entry {
    /// As an flist tells it.
    init(_ entry: FlistEntry) {
        self.init(
            kind: .file, permissions: entry.permissions, uid: entry.uid, gid: entry.gid, size: entry.size, mtime: entry.mtime,
            ctime: entry.ctime, content: entry.ino)
        switch entry.kind {
        case .file: break
        case .directory: kind = .directory
        case .symlink(let target): (kind, self.target) = (.symlink, target)
        case .fifo: kind = .fifo
        case .socket: kind = .socket
        case .charDevice(let major, let minor): (kind, rdev) = (.charDevice, DeviceNumber.encoded(major: major, minor: minor))
        case .blockDevice(let major, let minor): (kind, rdev) = (.blockDevice, DeviceNumber.encoded(major: major, minor: minor))
        }
    }
}
