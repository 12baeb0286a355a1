internal import ControlModel
internal import Flist

/// Entries of an flist in the words of the API.
enum FlistListing {
    /// The entry at `path` with a page of its children. Blocking.
    ///
    /// - Parameter after: inode number that the page before ended with.
    static func tree(of flist: FlistFile, path: [UInt8], after: Int64?, limit: Int) throws -> Tree {
        let entry = try flist.resolve(path, followLinks: !path.isEmpty && path.last == UInt8(ascii: "/"))
        var shown = shown(entry)
        if entry.ino == flist.root().ino { shown.name = "/" }
        var tree = Tree(path: FlistPath.quoted(path), entry: shown, entries: [], problems: [], next: nil)
        guard entry.isDirectory else { return tree }
        let page = try flist.children(of: entry.ino, after: after, limit: limit)
        tree.entries = page.entries.sorted { $0.name.lexicographicallyPrecedes($1.name) }.map(Self.shown)
        tree.problems = page.problems.map(\.line)
        tree.next = page.next.map(String.init)
        return tree
    }

    static func shown(_ entry: FlistEntry) -> TreeEntry {
        let name = String(decoding: entry.name, as: UTF8.self)
        var out = TreeEntry(
            name: name, type: .file, size: entry.isFile ? entry.size : 0, mode: octal(entry.permissions), mtime: entry.mtime,
            uid: entry.uid, gid: entry.gid)
        if Array(name.utf8) != entry.name { out.nameHex = entry.name.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
        switch entry.kind {
        case .file: break
        case .directory: out.type = .dir
        case .symlink(let target):
            out.type = .symlink
            out.target = String(decoding: target, as: UTF8.self)
            out.size = UInt64(target.count)
        case .fifo: out.type = .fifo
        case .socket: out.type = .socket
        case .charDevice(let major, let minor):
            out.type = .chrdev
            out.rdev = [major, minor]
        case .blockDevice(let major, let minor):
            out.type = .blkdev
            out.rdev = [major, minor]
        }
        return out
    }

    private static func octal(_ permissions: UInt16) -> String {
        let digits = String(permissions, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
}
