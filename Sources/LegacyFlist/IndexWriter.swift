internal import ChunkModel
internal import Flist
internal import SQLiteFile

/// Writes the tables of an `.fl` (FORMATS.md §1.1) and those of `FlistIndexTables`; one thread.
final class IndexWriter {
    private static let schema = """
        CREATE TABLE inode (ino INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER, name VARCHAR(255), size INTEGER, uid INTEGER,
            gid INTEGER, mode INTEGER, rdev INTEGER, ctime INTEGER, mtime INTEGER);
        CREATE TABLE extra (ino INTEGER PRIMARY KEY, data VARCHAR(4096));
        CREATE TABLE block (ino INTEGER, id VARCHAR(32), key VARCHAR(32));
        CREATE TABLE tag (key VARCHAR(10) PRIMARY KEY, value VARCHAR(255));
        CREATE TABLE route (start integer, end integer, url VARCHAR(2048));
        """
    /// Made at the end: sorting once is quicker than keeping them in order.
    private static let indexes = """
        CREATE INDEX parents ON inode (parent);
        CREATE INDEX names ON inode (name);
        CREATE INDEX block_ino ON block (ino);
        """
    /// Where `version` stands.
    static let versionTable = "chunkmesh_index"
    /// Counts up whenever the same archive gives other rows than before.
    static let version: Int64 = 1

    struct Row {
        var parent: Int64
        var name: [UInt8]
        var mode: UInt32
        var uid: UInt32
        var gid: UInt32
        var size: Int64 = 0
        var rdev: Int64 = 0
        var mtime: UInt32
        var ctime: UInt32
        var target: [UInt8]?
    }

    private let database: SQLiteDatabase
    private let inode: SQLiteStatement
    private let extra: SQLiteStatement
    private let block: SQLiteStatement
    private let problem: SQLiteStatement
    private let note: SQLiteStatement
    private(set) var lastIno: Int64 = 0

    /// - Parameter path: an empty file. It is thrown away after an error, so nothing is journaled or flushed meanwhile.
    init(path: String) throws {
        database = try SQLiteDatabase(path: path, mode: .readWrite)
        try database.execute("PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16384")
        try database.execute("BEGIN IMMEDIATE")
        try database.execute(Self.schema + FlistIndexTables.schema)
        try database.execute(
            "CREATE TABLE \(Self.versionTable) (version INTEGER); INSERT INTO \(Self.versionTable) VALUES (\(Self.version))")
        inode = try database.prepare(
            "INSERT INTO inode (ino, parent, name, size, uid, gid, mode, rdev, ctime, mtime) VALUES (?,?,?,?,?,?,?,?,?,?)")
        extra = try database.prepare("INSERT INTO extra (ino, data) VALUES (?,?)")
        block = try database.prepare("INSERT INTO block (ino, id, key) VALUES (?,?,?)")
        problem = try database.prepare("INSERT INTO \(FlistIndexTables.problems) (parent, name, reason, kept) VALUES (?,?,?,?)")
        note = try database.prepare("INSERT INTO \(FlistIndexTables.notes) (text) VALUES (?)")
    }

    /// - Returns: its inode number; they count up from 1.
    @discardableResult
    func add(_ row: Row) throws -> Int64 {
        lastIno += 1
        inode.bind(lastIno, at: 1)
        inode.bind(row.parent, at: 2)
        inode.bind(text: row.name, at: 3)
        inode.bind(row.size, at: 4)
        inode.bind(Int64(row.uid), at: 5)
        inode.bind(Int64(row.gid), at: 6)
        inode.bind(Int64(row.mode), at: 7)
        inode.bind(row.rdev, at: 8)
        inode.bind(Int64(row.ctime), at: 9)
        inode.bind(Int64(row.mtime), at: 10)
        try inode.run()
        if let target = row.target {
            extra.bind(lastIno, at: 1)
            extra.bind(blob: target, at: 2)
            try extra.run()
        }
        return lastIno
    }

    func addBlock(of ino: Int64, id: [UInt8], key: [UInt8]) throws {
        block.bind(ino, at: 1)
        block.bind(blob: id, at: 2)
        block.bind(blob: key, at: 3)
        try block.run()
    }

    func addProblem(in parent: Int64, name: [UInt8], _ reason: String, isKept: Bool = false) throws {
        problem.bind(parent, at: 1)
        // What is too long for a name says enough by its beginning.
        problem.bind(blob: Array(name.prefix(300)), at: 2)
        problem.bind(text: reason, at: 3)
        problem.bind(isKept ? 1 : 0, at: 4)
        try problem.run()
    }

    func add(note text: String) throws {
        note.bind(text: text, at: 1)
        try note.run()
    }

    func add(_ route: Route) throws {
        let exact = try database.prepare("INSERT INTO \(FlistIndexTables.routes) (tier, lower, upper, url, cache) VALUES (?,?,?,?,?)")
        exact.bind(route.tier, at: 1)
        exact.bind(blob: route.range.lowerBytes, at: 2)
        exact.bind(blob: route.range.upperBytes, at: 3)
        exact.bind(text: route.url, at: 4)
        exact.bind(route.isCache ? 1 : 0, at: 5)
        try exact.run()
        // A cache that nothing was written to yet is no place to read from.
        guard !route.isCache else { return }
        let plain = try database.prepare("INSERT INTO route (start, end, url) VALUES (?,?,?)")
        plain.bind(Int(route.range.firstBytes.lowerBound), at: 1)
        plain.bind(Int(route.range.firstBytes.upperBound), at: 2)
        plain.bind(text: route.url, at: 3)
        try plain.run()
    }

    func addTag(_ key: [UInt8], _ value: [UInt8]) throws {
        let statement = try database.prepare("INSERT OR REPLACE INTO tag (key, value) VALUES (?,?)")
        statement.bind(text: key, at: 1)
        statement.bind(text: value, at: 2)
        try statement.run()
    }

    func finish() throws {
        try database.execute(Self.indexes + FlistIndexTables.indexes)
        try database.execute("COMMIT")
    }

    /// Whether the file at `path` is an index of this version, wholly written.
    static func isCurrent(_ path: String) -> Bool {
        guard let database = try? SQLiteDatabase(path: path, mode: .foreign),
            let statement = try? database.prepare("select version from \(versionTable)"), (try? statement.step()) == true
        else { return false }
        return statement.integer(0) == version
    }
}
