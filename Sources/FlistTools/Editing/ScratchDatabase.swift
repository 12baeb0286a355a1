internal import SQLiteFile

/// Tables that are needed for a while, whatever their size: SQLite's own temporary file, which goes by itself.
///
/// Lies where SQLITE_TMPDIR or TMPDIR says, else in /var/tmp.
final class ScratchDatabase {
    /// Memory that its pages take; beyond, they go to the file.
    private static let cacheKiB = 32 << 10

    let database: SQLiteDatabase

    /// - Parameter schema: statements that make the tables.
    init(schema: String) throws {
        do {
            database = try SQLiteDatabase(path: "", mode: .readWrite)
            try database.execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-\(Self.cacheKiB)")
            try database.execute("BEGIN; " + schema)
        } catch {
            throw ToolError("no temporary database can be made: \(error)")
        }
    }

    func prepare(_ sql: String) throws -> SQLiteStatement { try database.prepare(sql) }
}

extension ToolError {
    /// What a scratch database said, in words that say what to do.
    static func scratch(_ error: SQLiteError) -> ToolError {
        ToolError(error.isFull ? "no room for temporary data: set TMPDIR to a directory with more" : "temporary data: \(error)")
    }
}
