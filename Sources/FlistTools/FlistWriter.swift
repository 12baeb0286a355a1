public import BlockCodec
public import ChunkModel
public import Flist
internal import Glibc
internal import SQLiteFile

/// Writes the tables of an `.fl` as rfs has them (FORMATS.md §1.1); for one thread. `PackSession` is what most callers want.
public final class FlistWriter {
    private static let schema = """
        CREATE TABLE inode (ino INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER, name VARCHAR(255), size INTEGER, uid INTEGER,
            gid INTEGER, mode INTEGER, rdev INTEGER, ctime INTEGER, mtime INTEGER);
        CREATE INDEX parents ON inode (parent);
        CREATE TABLE extra (ino INTEGER PRIMARY KEY, data VARCHAR(4096));
        CREATE TABLE block (ino INTEGER, id VARCHAR(32), key VARCHAR(32));
        CREATE INDEX block_ino ON block (ino);
        CREATE TABLE tag (key VARCHAR(10) PRIMARY KEY, value VARCHAR(255));
        CREATE TABLE route (start integer, end integer, url VARCHAR(2048));
        """

    let database: SQLiteDatabase
    private let inode: SQLiteStatement
    private let extra: SQLiteStatement
    private let block: SQLiteStatement
    private let dropBlocks: SQLiteStatement

    /// - Parameter path: a new or empty file. It is thrown away after an error, so nothing is journaled or flushed meanwhile.
    public init(path: String) throws {
        database = try SQLiteDatabase(path: path, mode: .readWrite)
        try database.execute("PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-8192")
        try database.execute("BEGIN IMMEDIATE")
        try database.execute(Self.schema)
        inode = try database.prepare(
            "INSERT INTO inode (ino, parent, name, size, uid, gid, mode, rdev, ctime, mtime) VALUES (?,?,?,?,?,?,?,?,?,?)")
        extra = try database.prepare("INSERT INTO extra (ino, data) VALUES (?,?)")
        block = try database.prepare("INSERT INTO block (ino, id, key) VALUES (?,?,?)")
        dropBlocks = try database.prepare("DELETE FROM block WHERE ino = ?")
    }

    /// A row of `inode`, and of `extra` for a symbolic link.
    public struct Row: Sendable {
        /// 1 for the root.
        public var ino: Int64
        /// 0 for the root.
        public var parent: Int64
        /// `/` for the root.
        public var name: [UInt8]
        public var size: Int64
        public var uid: UInt32
        public var gid: UInt32
        /// Type and permissions.
        public var mode: UInt32
        public var rdev: UInt64
        /// Seconds.
        public var mtime: Int64
        /// Seconds; recorded as equal to mtime when `nil`: a host's own would make every copy of a tree another flist.
        public var ctime: Int64?
        /// Of a symbolic link.
        public var target: [UInt8]?

        public init(
            ino: Int64, parent: Int64, name: [UInt8], size: Int64, uid: UInt32, gid: UInt32, mode: UInt32, rdev: UInt64 = 0, mtime: Int64,
            ctime: Int64? = nil, target: [UInt8]? = nil
        ) {
            (self.ino, self.parent, self.name, self.size, self.uid, self.gid) = (ino, parent, name, size, uid, gid)
            (self.mode, self.rdev, self.mtime, self.ctime, self.target) = (mode, rdev, mtime, ctime, target)
        }
    }

    public func add(_ row: Row) throws {
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

    /// The next block of the file `ino`.
    public func add(_ ref: BlockRef, to ino: Int64) throws {
        block.bind(ino, at: 1)
        block.bind(blob: ref.id.bytes, at: 2)
        block.bind(blob: ref.key.bytes, at: 3)
        try block.run()
    }

    public func removeBlocks(of ino: Int64) throws {
        dropBlocks.bind(ino, at: 1)
        try dropBlocks.run()
    }

    /// The path of a row that was added, from the root, without a slash in front; `nil` when a row above it is missing.
    func path(of ino: Int64) throws -> [UInt8]? {
        let statement = try database.prepare("SELECT parent, name FROM inode WHERE ino = ?")
        var names: [[UInt8]] = []
        var at = ino
        while at != 1 {
            statement.bind(at, at: 1)
            defer { statement.reset() }
            guard try statement.step(), let parent = statement.integer(0), let name = statement.bytes(1) else { return nil }
            names.append(name)
            at = parent
        }
        return Array(names.reversed().joined(separator: [UInt8(ascii: "/")]))
    }

    func setSize(_ size: Int64, of ino: Int64) throws {
        let statement = try database.prepare("UPDATE inode SET size = ? WHERE ino = ?")
        statement.bind(size, at: 1)
        statement.bind(ino, at: 2)
        try statement.run()
    }

    public func add(route: Route) throws {
        let statement = try database.prepare("INSERT INTO route (start, end, url) VALUES (?,?,?)")
        statement.bind(Int(route.range.firstBytes.lowerBound), at: 1)
        statement.bind(Int(route.range.firstBytes.upperBound), at: 2)
        statement.bind(text: route.url, at: 3)
        try statement.run()
    }

    public func add(tag: FlistTag) throws {
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
            case .problem: try problemStatement()
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

    /// Gives the blocks of the file `source`, as far as they were added, to the file `ino` too.
    ///
    /// - Returns: how many they are.
    func copyBlocks(of source: Int64, to ino: Int64) throws -> Int {
        let statement = try database.prepare("INSERT INTO block (ino, id, key) SELECT ?, id, key FROM block WHERE ino = ? ORDER BY rowid")
        statement.bind(ino, at: 1)
        statement.bind(source, at: 2)
        try statement.run()
        return database.changes
    }

    /// Writes all that is left; nothing may be added afterwards.
    public func finish() throws {
        // Names come in no order: sorted once, instead of a page of the index read and written for each.
        try database.execute("CREATE INDEX names ON inode (name)")
        try database.execute("COMMIT")
    }
}
