internal import ChunkModel
internal import Glibc
internal import SQLiteFile

/// The SQLite file that remembers sizes and uses between two runs. Everything in it can be had from the directory again,
/// except the order of use. One thread at a time.
///
/// Written without syncing: after a power loss the directory is listed anyway, and an orderly stop syncs the file system.
final class IndexFile {
    /// A row, or the word that the chunk is gone.
    struct Row: Sendable {
        let id: ChunkID
        let isHeld: Bool
        let size: UInt32
        let lastUse: UInt32
        let isVerified: Bool
    }

    private let database: SQLiteDatabase
    private let put: SQLiteStatement
    private let delete: SQLiteStatement

    static func path(in directory: String) -> String { directory + "/index.db" }

    /// Opens or creates the file; one that is damaged or no index of ours is replaced by an empty one.
    convenience init(directory: String) throws {
        do {
            try self.init(opening: directory)
        } catch let error as SQLiteError where !error.isFull {
            Self.remove(in: directory)
            try self.init(opening: directory)
        }
    }

    private init(opening directory: String) throws {
        database = try Self.open(directory)
        put = try database.prepare(
            "INSERT INTO chunks(id, size, lastUse, verified) VALUES(?1, ?2, ?3, ?4)"
                + " ON CONFLICT(id) DO UPDATE SET size = ?2, lastUse = ?3, verified = ?4")
        delete = try database.prepare("DELETE FROM chunks WHERE id = ?1")
    }

    static func remove(in directory: String) {
        for suffix in ["", "-wal", "-shm", "-journal"] { unlink(path(in: directory) + suffix) }
    }

    private static func open(_ directory: String) throws -> SQLiteDatabase {
        let database = try SQLiteDatabase(path: path(in: directory), mode: .readWrite)
        try database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cell_size_check = ON")
        try database.execute(
            "CREATE TABLE IF NOT EXISTS chunks(id BLOB PRIMARY KEY, size INTEGER, lastUse INTEGER, verified INTEGER) WITHOUT ROWID")
        return database
    }

    /// Calls `body` with each row that makes sense.
    func forEachRow(_ body: (Row) -> Void) throws {
        let rows = try database.prepare("SELECT id, size, lastUse, verified FROM chunks")
        while try rows.step() {
            guard let bytes = rows.bytes(0), let id = ChunkID(bytes), let size = rows.integer(1).flatMap({ UInt32(exactly: $0) }),
                Int(size) <= ChunkLimits.maxStoredBytes, let lastUse = rows.integer(2), let verified = rows.integer(3)
            else { continue }
            body(Row(id: id, isHeld: true, size: size, lastUse: UInt32(clamping: lastUse), isVerified: verified == 1))
        }
    }

    /// Writes a batch in one transaction.
    func write(_ rows: [Row]) throws {
        try database.transaction { try apply(rows) }
    }

    /// Replaces everything by the batches that `next` yields until an empty one, in one transaction.
    func rewrite(_ next: () -> [Row]?) throws {
        try database.transaction {
            try database.execute("DELETE FROM chunks")
            while let rows = next() { try apply(rows) }
        }
    }

    private func apply(_ rows: [Row]) throws {
        for row in rows {
            if row.isHeld {
                put.bind(blob: row.id.bytes, at: 1)
                put.bind(Int64(row.size), at: 2)
                put.bind(Int64(row.lastUse), at: 3)
                put.bind(row.isVerified ? 1 : 0, at: 4)
                try put.run()
            } else {
                delete.bind(blob: row.id.bytes, at: 1)
                try delete.run()
            }
        }
    }
}
