internal import BlockCodec
internal import Flist

extension LayerTree {
    /// Entries read from the tree at once.
    private static let pageEntries = 1024

    /// Writes all that is seen of the tree, in the order in which packing would: a directory, its entries by name, then its
    /// sub-directories. The same tree gives the same bytes.
    ///
    /// - Parameters:
    ///   - blocks: of a file, by the layer and the content that it was placed with; `nil` leaves the entry out.
    ///   - check: called for each directory and each page of entries.
    /// - Returns: what was written.
    func write(
        to writer: FlistWriter, check: () throws -> Void = {},
        blocks: (_ layer: Int64, _ content: Int64, _ path: [UInt8]) throws -> [BlockRef]?
    ) throws -> WrittenTree {
        struct Directory {
            var id: Int64
            var parentIno: Int64
            var name: [UInt8]
            var path: [UInt8]
            var entry: Entry
        }
        var written = WrittenTree()
        var nextIno: Int64 = 2
        func add(_ entry: Entry, ino: Int64, parent: Int64, name: [UInt8]) throws {
            try writer.add(entry.row(ino: ino, parent: parent, name: name))
            written.entries += 1
        }
        var pending = [Directory(id: Self.root, parentIno: 0, name: [UInt8(ascii: "/")], path: [], entry: try rootEntry())]
        while let directory = pending.popLast() {
            let ino = directory.parentIno == 0 ? 1 : nextIno
            if directory.parentIno != 0 { nextIno += 1 }
            try add(directory.entry, ino: ino, parent: directory.parentIno, name: directory.name)
            written.directories += 1
            var below: [Directory] = []
            var after: [UInt8] = []
            while true {
                try check()
                let page = try entries(of: directory.id, after: after, limit: Self.pageEntries)
                for (name, id, entry, top) in page {
                    let path = FlistPath.joined(directory.path, name)
                    if entry.kind == .directory {
                        below.append(Directory(id: id, parentIno: ino, name: name, path: path, entry: entry))
                        continue
                    }
                    if entry.kind == .file {
                        guard let refs = try blocks(top, entry.content, path) else { continue }
                        for ref in refs { try writer.add(ref, to: nextIno) }
                        written.files += 1
                        written.bytes = written.bytes.addingReportingOverflow(entry.size).overflow ? .max : written.bytes + entry.size
                        written.blocks += refs.count
                    }
                    try add(entry, ino: nextIno, parent: ino, name: name)
                    nextIno += 1
                }
                guard page.count == Self.pageEntries, let last = page.last else { break }
                after = last.name
            }
            pending.append(contentsOf: below.reversed())
        }
        return written
    }
}

/// Sums over what was written of a tree.
struct WrittenTree {
    /// The root too.
    var entries = 0
    var files = 0
    var directories = 0
    var bytes: UInt64 = 0
    var blocks = 0
}

extension LayerTree.Entry {
    fileprivate func row(ino: Int64, parent: Int64, name: [UInt8]) -> FlistWriter.Row {
        let type: UInt32 =
            switch kind {
            case .file: 0o100000
            case .directory, .nothing: 0o040000
            case .symlink: 0o120000
            case .fifo: 0o010000
            case .socket: 0o140000
            case .charDevice: 0o020000
            case .blockDevice: 0o060000
            }
        let bytes: Int64 =
            switch kind {
            case .file: Int64(clamping: size)
            case .directory, .nothing: 4096
            case .symlink: Int64(target?.count ?? 0)
            case .fifo, .socket, .charDevice, .blockDevice: 0
            }
        return FlistWriter.Row(
            ino: ino, parent: parent, name: name, size: bytes, uid: uid, gid: gid, mode: type | UInt32(permissions), rdev: rdev,
            mtime: mtime,
            ctime: ctime, target: target)
    }

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
        case .charDevice(let major, let minor): (kind, rdev) = (.charDevice, Self.rdev(major, minor))
        case .blockDevice(let major, let minor): (kind, rdev) = (.blockDevice, Self.rdev(major, minor))
        }
    }

    /// A device's number as Linux has it in 64 bits (FORMATS.md §1.2).
    static func rdev(_ major: UInt32, _ minor: UInt32) -> UInt64 {
        let (major, minor) = (UInt64(major), UInt64(minor))
        return (minor & 0xff) | (major & 0xfff) << 8 | (minor & ~0xff) << 12 | (major & ~0xfff) << 32
    }
}
