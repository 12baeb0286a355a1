internal import BlockCodec
internal import ChunkModel
internal import Flist
internal import Glibc
internal import SQLiteFile

/// Writes the tables of an `.fl` as rfs has them (FORMATS.md §1.1); one thread.
final class FlistWriter {
    private static let schema = """
        CREATE TABLE inode (ino INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER, name VARCHAR(255), size INTEGER, uid INTEGER,
            gid INTEGER, mode INTEGER, rdev INTEGER, ctime INTEGER, mtime INTEGER);
        CREATE INDEX parents ON inode (parent);
        CREATE INDEX names ON inode (name);
        CREATE TABLE extra (ino INTEGER PRIMARY KEY, data VARCHAR(4096));
        CREATE TABLE block (ino INTEGER, id VARCHAR(32), key VARCHAR(32));
        CREATE INDEX block_ino ON block (ino);
        CREATE TABLE tag (key VARCHAR(10) PRIMARY KEY, value VARCHAR(255));
        CREATE TABLE route (start integer, end integer, url VARCHAR(2048));
        """

    private let database: SQLiteDatabase
    private let inode: SQLiteStatement
    private let extra: SQLiteStatement
    private let block: SQLiteStatement
    private let dropBlocks: SQLiteStatement

    /// - Parameter path: a new file. It is thrown away after an error, so nothing is journaled or flushed meanwhile.
    init(path: String) throws {
        database = try SQLiteDatabase(path: path, mode: .readWrite)
        try database.execute("PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
        try database.execute("BEGIN IMMEDIATE")
        try database.execute(Self.schema)
        inode = try database.prepare(
            "INSERT INTO inode (ino, parent, name, size, uid, gid, mode, rdev, ctime, mtime) VALUES (?,?,?,?,?,?,?,?,?,?)")
        extra = try database.prepare("INSERT INTO extra (ino, data) VALUES (?,?)")
        block = try database.prepare("INSERT INTO block (ino, id, key) VALUES (?,?,?)")
        dropBlocks = try database.prepare("DELETE FROM block WHERE ino = ?")
    }

    struct Row {
        var ino: Int64
        var parent: Int64
        var name: [UInt8]
        var size: Int64
        var uid: UInt32
        var gid: UInt32
        var mode: UInt32
        var rdev: UInt64
        var mtime: Int64
        /// Recorded as equal to mtime when there is none: the host's would make every copy of a tree another flist.
        var ctime: Int64?
        var target: [UInt8]?
    }

    func add(_ row: Row) throws {
        inode.bind(row.ino, at: 1)
        inode.bind(row.parent, at: 2)
        inode.bind(text: row.name, at: 3)
        inode.bind(row.size, at: 4)
        inode.bind(Int64(row.uid), at: 5)
        inode.bind(Int64(row.gid), at: 6)
        inode.bind(Int64(row.mode), at: 7)
        inode.bind(Int64(bitPattern: row.rdev), at: 8)
        inode.bind(row.ctime ?? row.mtime, at: 9)
        inode.bind(row.mtime, at: 10)
        try inode.run()
        guard let target = row.target else { return }
        extra.bind(row.ino, at: 1)
        extra.bind(blob: target, at: 2)
        try extra.run()
    }

    func add(_ ref: BlockRef, to ino: Int64) throws {
        block.bind(ino, at: 1)
        block.bind(blob: ref.id.bytes, at: 2)
        block.bind(blob: ref.key.bytes, at: 3)
        try block.run()
    }

    func removeBlocks(of ino: Int64) throws {
        dropBlocks.bind(ino, at: 1)
        try dropBlocks.run()
    }

    func add(route: Route) throws {
        let statement = try database.prepare("INSERT INTO route (start, end, url) VALUES (?,?,?)")
        statement.bind(Int(route.range.firstBytes.lowerBound), at: 1)
        statement.bind(Int(route.range.firstBytes.upperBound), at: 2)
        statement.bind(text: route.url, at: 3)
        try statement.run()
    }

    func add(tag: FlistTag) throws {
        let statement = try database.prepare("INSERT OR REPLACE INTO tag (key, value) VALUES (?,?)")
        statement.bind(text: tag.key, at: 1)
        statement.bind(text: tag.value, at: 2)
        try statement.run()
    }

    /// A row of another flist as it stands there.
    ///
    /// - Parameter values: as many as `FlistFile.forEachRow` gives for the table.
    func copy(_ values: [FlistValue], to table: FlistFile.Table) throws {
        let statement =
            switch table {
            case .inode: inode
            case .extra: extra
            case .block: block
            }
        for (index, value) in values.enumerated() {
            switch value {
            case .integer(let number): statement.bind(number, at: index + 1)
            case .text(let bytes): statement.bind(text: bytes, at: index + 1)
            case .blob(let bytes): statement.bind(blob: bytes, at: index + 1)
            case .null: statement.bindNull(at: index + 1)
            }
        }
        try statement.run()
    }

    func finish() throws { try database.execute("COMMIT") }
}
