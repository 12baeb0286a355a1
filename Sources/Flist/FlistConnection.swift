internal import BlockCodec
internal import ChunkModel
internal import SQLiteFile

/// One connection to an flist with its compiled statements. For one thread at a time; `FlistFile` brings the lock.
final class FlistConnection: @unchecked Sendable {
    let database: SQLiteDatabase
    let schema: FlistSchema
    private let inodeRow: SQLiteStatement
    /// From an inode number upwards.
    private let inodeRows: SQLiteStatement
    private let extraRow: SQLiteStatement?
    private let childRows: SQLiteStatement?
    private let nameRows: SQLiteStatement?
    private let blockRows: SQLiteStatement?
    private let blockRow: SQLiteStatement
    /// Of `FlistIndexTables.problems`.
    let problemRows: SQLiteStatement?
    /// Made upon first use, when the file has no such index.
    private var parentPairs: PairIndex?
    private var blockPairs: PairIndex?

    static let inodeColumns = "parent, name, size, uid, gid, mode, rdev, ctime, mtime"
    /// NULL stands for "not 16 or 32 bytes of BLOB", so that what is too long is never loaded.
    static let blockColumns =
        "case when typeof(id) = 'blob' and length(id) in (16, 32) then id end,"
        + " case when typeof(key) = 'blob' and length(key) in (16, 32) then key end"

    init(path: String) throws {
        database = try SQLiteDatabase(path: path, mode: .foreign)
        let schema = try FlistSchema(database)
        self.schema = schema
        inodeRow = try database.prepare("select \(Self.inodeColumns) from inode where ino = ?")
        inodeRows = try database.prepare("select \(Self.inodeColumns), ino from inode where ino >= ? order by ino")
        extraRow = schema.hasExtra ? try database.prepare("select data from extra where ino = ?") : nil
        childRows = try schema.parentIndex.map { [database] index in
            try database.prepare(
                "select ino from inode indexed by \(index) where parent = ? collate binary and ino > ? order by ino limit ?")
        }
        nameRows = try schema.nameIndex.map { [database] index in
            try database.prepare(
                "select ino from inode indexed by \(index) where name = ? collate binary and ino > ? order by ino limit ?")
        }
        blockRows = try schema.blockIndex.map { [database] index in
            try database.prepare(
                "select \(schema.blockRowid) from block indexed by \(index) where ino = ? collate binary and \(schema.blockRowid) > ?"
                    + " order by \(schema.blockRowid) limit ?")
        }
        problemRows = try Self.problemStatement(database)
        blockRow = try database.prepare("select \(Self.blockColumns), ino from block where \(schema.blockRowid) = ?")
    }

    /// The inode's row, judged; `nil` when there is none.
    func inode(_ ino: Int64) throws -> InodeRow.Verdict? {
        inodeRow.bind(ino, at: 1)
        defer { inodeRow.reset() }
        return try sparingLongValues(ino) {
            guard try inodeRow.step() else { return nil }
            return try judge(ino, inodeRow)
        }
    }

    private func judge(_ ino: Int64, _ row: SQLiteStatement) throws -> InodeRow.Verdict {
        try InodeRow.judge(ino: ino, row: row) {
            guard let extraRow else { return nil }
            extraRow.bind(ino, at: 1)
            defer { extraRow.reset() }
            return try extraRow.step() ? extraRow.bytes(0) : nil
        }
    }

    /// A value over SQLite's length limit spoils its own row only.
    private func sparingLongValues(_ ino: Int64, _ body: () throws -> InodeRow.Verdict?) throws -> InodeRow.Verdict? {
        do { return try body() } catch let error as SQLiteError where error.isTooBig {
            return .refused(EntryProblem(ino: ino, path: [], reason: "a value of over a megabyte"))
        }
    }

    /// The entry `ino` as a child of `parent`; `nil` when there is no such row.
    func child(_ ino: Int64, of parent: Int64) throws -> InodeRow.Verdict? {
        guard ino != FlistFile.rootIno else { return nil }
        guard let verdict = try inode(ino) else {
            throw FlistError(.damaged, "damaged flist: its index names inode \(ino), its table does not hold it")
        }
        try require(verdict, below: parent)
        return verdict
    }

    private func require(_ verdict: InodeRow.Verdict, below parent: Int64) throws {
        if case .good(let entry) = verdict, entry.parent != parent {
            throw FlistError(.damaged, "damaged flist: index and table disagree on the parent of inode \(entry.ino)")
        }
    }

    /// The entries `numbers`, which ascend, as children of `parent`. Those whose rows follow one another are stepped through: to look
    /// each one up costs twice the time.
    func children(_ numbers: [Int64], of parent: Int64) throws -> [InodeRow.Verdict] {
        var verdicts: [InodeRow.Verdict] = []
        verdicts.reserveCapacity(numbers.count)
        defer { inodeRows.reset() }
        var isStepping = false
        for (index, number) in numbers.enumerated() {
            let isFollowed = index + 1 < numbers.count && numbers[index + 1] == number &+ 1
            if isFollowed, !isStepping {
                inodeRows.bind(number, at: 1)
                isStepping = true
            }
            if isStepping, number != FlistFile.rootIno, let verdict = try stepped(to: number) {
                try require(verdict, below: parent)
                verdicts.append(verdict)
            } else {
                isStepping = false
                if let verdict = try child(number, of: parent) { verdicts.append(verdict) }
            }
            guard !isStepping || !isFollowed else { continue }
            isStepping = false
            inodeRows.reset()
        }
        return verdicts
    }

    /// The next row of `inodeRows`; `nil` when it is not `number`'s, or cannot be read: its look-up says why.
    private func stepped(to number: Int64) throws -> InodeRow.Verdict? {
        do {
            guard try inodeRows.step(), inodeRows.integer(9) == number else { return nil }
            return try judge(number, inodeRows)
        } catch is SQLiteError {
            return nil
        }
    }

    /// Whether the row `ino`, however bad, says that `parent` is its directory.
    func isParent(_ parent: Int64, of ino: Int64) throws -> Bool {
        inodeRow.bind(ino, at: 1)
        defer { inodeRow.reset() }
        return try inodeRow.step() && inodeRow.integer(0) == parent
    }

    /// Up to `limit` inode numbers below `parent`, ascending, after `after`. The root is nobody's child.
    func childNumbers(of parent: Int64, after: Int64?, limit: Int) throws -> [Int64] {
        if let childRows { return try numbers(childRows, after: after, limit: limit) { childRows.bind(parent, at: 1) } }
        if parentPairs == nil { parentPairs = try PairIndex(database, sql: "select parent, ino from inode", missing: "inode.parent") }
        return parentPairs?.rows(of: parent, after: after, limit: limit) ?? []
    }

    /// Whether look-ups by name have an index to go by.
    var hasNames: Bool { nameRows != nil }

    /// Up to `limit` inode numbers of entries called `name` in any directory, ascending, after `after`.
    func numbers(named name: [UInt8], asBlob: Bool, after: Int64?, limit: Int) throws -> [Int64] {
        guard let nameRows else { return [] }
        return try numbers(nameRows, after: after, limit: limit) {
            if asBlob { nameRows.bind(blob: name, at: 1) } else { nameRows.bind(text: name, at: 1) }
        }
    }

    /// Up to `limit` row numbers of the blocks of `ino`, ascending, after `after`.
    func blockNumbers(of ino: Int64, after: Int64?, limit: Int) throws -> [Int64] {
        if let blockRows { return try numbers(blockRows, after: after, limit: limit) { blockRows.bind(ino, at: 1) } }
        if blockPairs == nil {
            blockPairs = try PairIndex(database, sql: "select ino, \(schema.blockRowid) from block", missing: "block.ino")
        }
        return blockPairs?.rows(of: ino, after: after, limit: limit) ?? []
    }

    /// The id and key in row `number`; `nil` in place of one whose length is not right. Both are 32 bytes long, or both 16 where an
    /// flist was converted from a legacy one.
    func block(_ number: Int64) throws -> (id: ChunkID?, key: BlockKey?) {
        blockRow.bind(number, at: 1)
        defer { blockRow.reset() }
        guard try blockRow.step() else {
            throw FlistError(.damaged, "damaged flist: its index names block row \(number), its table does not hold it")
        }
        return Self.block(blockRow)
    }

    /// The id and key in the current row of `blockColumns`.
    static func block(_ row: SQLiteStatement) -> (id: ChunkID?, key: BlockKey?) {
        let id = row.bytes(0).flatMap { ChunkID($0) }
        let key = row.bytes(1).flatMap { BlockKey($0) }
        // A key of the other kind is no key for that id.
        return (id, id == nil || key?.length == id?.length ? key : nil)
    }

    private func numbers(_ statement: SQLiteStatement, after: Int64?, limit: Int, bindFirst: () -> Void) throws -> [Int64] {
        bindFirst()
        // The least number of all can't be "after" anything, and is no inode that is accepted.
        statement.bind(after ?? Int64.min, at: 2)
        statement.bind(limit, at: 3)
        defer { statement.reset() }
        var out: [Int64] = []
        var last = after ?? Int64.min
        while try statement.step() {
            guard let number = statement.integer(0) else { continue }
            // Only an index whose pages are out of order, or come twice, goes back: who follows it may never end.
            guard number > last else { throw FlistError(.damaged, "damaged flist: an index is out of order") }
            last = number
            out.append(number)
        }
        return out
    }
}

extension SQLiteError {
    /// SQLITE_TOOBIG: a value over the length limit of foreign files.
    var isTooBig: Bool { code & 0xff == 18 }
}
