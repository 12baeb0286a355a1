public import ChunkModel
public import BlockCodec
internal import SQLiteFile

extension FlistFile {
    /// The blocks of a regular file in the order of their bytes, which is that of their rows (FORMATS.md §1.3). They may be
    /// uneven: `FileReader` finds out where each one belongs.
    ///
    /// - Throws: `badBlocks` when an id or key is not 32 bytes, or when so many blocks cannot hold exactly `entry.size` bytes. The
    ///   message speaks of the file without its name: the caller, who knows the path, puts it before. Also when the flist says that its
    ///   blocks are coded in a way that this version does not know.
    public func blocks(of entry: FlistEntry) throws(FlistError) -> [BlockRef] {
        guard entry.isFile else { throw FlistError(.badBlocks, "not a regular file") }
        // No block is empty, and none is over the limit.
        let least = entry.size / UInt64(ChunkLimits.maxPlainBytes) + (entry.size % UInt64(ChunkLimits.maxPlainBytes) == 0 ? 0 : 1)
        let most = Int(min(entry.size, UInt64(Self.maxBlocksPerFile)))
        guard least <= UInt64(Self.maxBlocksPerFile) else {
            let rows = try withConnection { try $0.blockNumbers(of: entry.ino, after: nil, limit: 1).count }
            throw FlistError(
                .badBlocks, "\(rows == 0 ? "no blocks for" : "too many blocks would be needed for") \(entry.size) bytes")
        }
        let blocks = try withConnection { connection in
            var blocks: [BlockRef] = []
            var after: Int64?
            while true {
                let numbers = try connection.blockNumbers(of: entry.ino, after: after, limit: 1024)
                for number in numbers {
                    guard blocks.count < most else {
                        throw FlistError(.badBlocks, "more blocks than \(entry.size) bytes can have")
                    }
                    let (id, key) = try connection.block(number)
                    guard let id else { throw FlistError(.badBlocks, "bad id of block \(blocks.count) (not 32 bytes, nor 16)") }
                    guard let key else {
                        throw FlistError(.badBlocks, "bad key of block \(blocks.count) (not \(id.length.rawValue) bytes)")
                    }
                    blocks.append(BlockRef(id: id, key: key, coding: try self.coding(of: id)))
                }
                after = numbers.last
                if numbers.count < 1024 { return blocks }
            }
        }
        guard UInt64(blocks.count) >= least else {
            throw FlistError(
                .badBlocks, "\(blocks.isEmpty ? "no" : "\(blocks.count)") blocks cannot hold its \(entry.size) bytes")
        }
        return blocks
    }

    /// How the block that became the chunk `id` was coded.
    private func coding(of id: ChunkID) throws(FlistError) -> BlockCoding {
        if id.length == .legacy { return .legacy }
        guard let blockCoding else {
            let name = tags.first { $0.key == FlistTag.codec }.map { FlistPath.quoted(Array($0.value.utf8.prefix(40))) } ?? "?"
            throw FlistError(.badBlocks, "its blocks are in the codec \(name), which this version does not read")
        }
        return blockCoding
    }

    /// The different chunk ids of the flist in order of the first row that names them, over the whole block table in rowid order,
    /// rows without an id of 32 or 16 bytes left out.
    ///
    /// **This order is what the availability bitmaps of the mesh index**: bit n stands for the n-th id of this list. It depends
    /// on the flist's bytes only, so nodes that agree on its digest agree on the bits.
    ///
    /// Streams the table; needs about 90 bytes for each chunk while it runs, and 40 afterwards.
    public func uniqueChunks() throws(FlistError) -> [ChunkID] { try uniqueChunksAndWholeBlocks().ids }

    /// The same, and a bit for each of them (of 64 in a word, the lowest first): whether it is, somewhere, a block with another block of the
    /// same file behind it. Such blocks are whole in evenly cut files. Blocks of a file that stand apart in the table are not noticed.
    public func uniqueChunksAndWholeBlocks() throws(FlistError) -> (ids: [ChunkID], wholeBlocks: [UInt64]) {
        try withConnection { connection in
            var set = ChunkSet()
            var whole: [UInt64] = []
            var last: (ino: Int64, place: Int)?
            let statement = try connection.database.prepare(
                "select \(FlistConnection.blockColumns), ino from block order by \(connection.schema.blockRowid)")
            while try statement.step() {
                let ino = statement.integer(2)
                if let last, last.ino == ino { whole[last.place / 64] |= 1 << (last.place % 64) }
                last = nil
                guard let id = statement.bytes(0).flatMap({ ChunkID($0) }) else { continue }
                let place = set.insert(id)
                if place / 64 >= whole.count { whole.append(0) }
                last = ino.map { ($0, place) }
            }
            return (set.ids, whole)
        }
    }

    /// A row of the block table.
    public struct BlockRow: Sendable {
        /// Of the file.
        public let ino: Int64
        /// `nil` when id or key have no right length.
        public let ref: BlockRef?
    }

    /// Up to `limit` rows of the block table in order of their numbers, after row `after`; `next` is what to pass for the following ones,
    /// `nil` at the end. For what goes through all blocks without holding them.
    public func blockRows(after: Int64?, limit: Int) throws(FlistError) -> (rows: [BlockRow], next: Int64?) {
        try withConnection { connection in
            let number = connection.schema.blockRowid
            let statement = try connection.database.prepare(
                "select \(FlistConnection.blockColumns), ino, \(number) from block where \(number) > ? order by \(number) limit ?")
            statement.bind(after ?? Int64.min, at: 1)
            statement.bind(limit, at: 2)
            var rows: [BlockRow] = []
            var last: Int64?
            while try statement.step() {
                last = statement.integer(3)
                var ref: BlockRef?
                if case (let id?, let key?) = FlistConnection.block(statement) {
                    ref = BlockRef(id: id, key: key, coding: try self.coding(of: id))
                }
                rows.append(BlockRow(ino: statement.integer(2) ?? 0, ref: ref))
            }
            return (rows, rows.count < limit ? nil : last)
        }
    }

    /// Sums over the tables, read once from end to end.
    public func totals() throws(FlistError) -> FlistTotals {
        var totals = try withConnection { connection in
            var totals = FlistTotals()
            let statement = try connection.database.prepare("select mode, size from inode")
            while try statement.step() {
                guard let mode = statement.integer(0).flatMap({ UInt16(exactly: $0) }), mode & 0o170000 == 0o100000,
                    let size = statement.integer(1).flatMap({ UInt64(exactly: $0) })
                else { continue }
                totals.files += 1
                let (sum, overflow) = totals.bytes.addingReportingOverflow(size)
                totals.bytes = overflow ? .max : sum
            }
            return totals
        }
        totals.uniqueChunks = try uniqueChunks().count
        return totals
    }
}

/// Chunk ids in order of first appearance: a list, and an open hash table of places in it (5 to 11 bytes an id).
struct ChunkSet {
    private(set) var ids: [ChunkID] = []
    private var table: [UInt32] = Array(repeating: .max, count: 1024)

    /// - Returns: the id's place in `ids`.
    @discardableResult
    mutating func insert(_ id: ChunkID) -> Int {
        let slot = freeOrEqual(id)
        if table[slot] != .max { return Int(table[slot]) }
        table[slot] = UInt32(ids.count)
        ids.append(id)
        if ids.count * 4 > table.count * 3 {
            table = Array(repeating: .max, count: table.count * 2)
            for (place, id) in ids.enumerated() { table[freeOrEqual(id)] = UInt32(place) }
        }
        return ids.count - 1
    }

    private func freeOrEqual(_ id: ChunkID) -> Int {
        // Seeded for each process: ids come from the flist, and could have been chosen to collide.
        var slot = id.hashValue & (table.count - 1)
        while table[slot] != .max, ids[Int(table[slot])] != id { slot = (slot + 1) & (table.count - 1) }
        return slot
    }
}

extension FlistFile {
    /// Calls `body` with the size of each inode, reachable or not: 0 for what is no file and what has no usable size.
    package func forEachInodeSize(_ body: (UInt64) -> Void) throws(FlistError) {
        try withConnection { connection in
            let statement = try connection.database.prepare("select mode, size from inode")
            while try statement.step() {
                let isFile = statement.integer(0).flatMap { UInt16(exactly: $0) }.map { $0 & 0o170000 == 0o100000 } ?? false
                body(isFile ? statement.integer(1).flatMap { UInt64(exactly: $0) } ?? 0 : 0)
            }
        }
    }
}
