internal import BlockCodec
internal import ChunkModel
internal import Flist

/// The different blocks, or chunks, of an flist, batch after batch: nothing is held but which ones were given. Blocking.
struct UniqueBlocks {
    /// A block, and the inode of the first file that has it.
    struct Item: Sendable {
        let ref: BlockRef
        let ino: Int64
    }

    private static let pageRows = 1024

    private let flist: FlistFile
    /// Chunks that several keys name come once only.
    private let byChunk: Bool
    private var after: Int64?
    private var isAtEnd = false
    private var waiting: [Item] = []
    private(set) var table = BlockTable()
    /// Rows without a usable id or key.
    private(set) var badRows = 0

    init(_ flist: FlistFile, byChunk: Bool) { (self.flist, self.byChunk) = (flist, byChunk) }

    /// Up to `limit` further ones; empty at the end.
    mutating func next(limit: Int) throws(FlistError) -> [Item] {
        while waiting.count < limit, !isAtEnd {
            let (rows, next) = try flist.blockRows(after: after, limit: Self.pageRows)
            (after, isAtEnd) = (next, next == nil)
            for row in rows {
                guard let ref = row.ref else {
                    badRows += 1
                    continue
                }
                if byChunk ? table.insert(ref.id) : table.insert(ref) { waiting.append(Item(ref: ref, ino: row.ino)) }
            }
        }
        let items = Array(waiting.prefix(limit))
        waiting.removeFirst(items.count)
        return items
    }

    mutating func setLength(_ length: Int, of ref: BlockRef) { table.setLength(length, of: ref) }

    /// How many there are in all; reads the table once for it.
    static func count(_ flist: FlistFile, byChunk: Bool) throws(FlistError) -> Int {
        var all = UniqueBlocks(flist, byChunk: byChunk)
        while try !all.next(limit: pageRows).isEmpty {}
        return all.table.count
    }
}

extension FlistFile {
    /// The path of an inode, quoted, for messages; `nil` when the root doesn't lead to it.
    func shownPath(of ino: Int64) -> String? {
        var names: [[UInt8]] = []
        var at = ino
        while at != 1, names.count <= FlistFile.maxDepth {
            guard let entry = try? inode(at) else { return nil }
            names.append(entry.name)
            at = entry.parent
        }
        guard at == 1 else { return nil }
        return FlistPath.quoted([UInt8(ascii: "/")] + names.reversed().joined(separator: [UInt8(ascii: "/")]))
    }
}
