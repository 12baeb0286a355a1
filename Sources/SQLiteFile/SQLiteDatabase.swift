internal import CSQLite

/// What SQLite answered, with the statement or file that it was about.
public struct SQLiteError: Error, CustomStringConvertible, Sendable {
    /// SQLite's (extended) result code.
    public let code: Int32
    public let message: String
    public let context: String

    /// The file is no database, or its pages do not hold together.
    public var isDamage: Bool { [SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_FORMAT].contains(code & 0xff) }
    /// No room on the device.
    public var isFull: Bool { code & 0xff == SQLITE_FULL }
    public var description: String { "\(context): \(message)" }
}

/// One connection to an SQLite file. Blocking, and for one thread at a time: its owner brings the lock.
///
/// A thin layer of our own since foreign flists must be opened `immutable` and with SQLite's defences on, which the
/// usual Swift libraries do not offer.
public final class SQLiteDatabase: @unchecked Sendable {
    public enum Mode: Sendable {
        /// Our own file, created where it is missing.
        case readWrite
        /// A foreign file: read-only, immutable (no locks, no journal, no -wal), no way to run code or to write.
        case foreign
    }

    let handle: OpaquePointer
    let path: String

    /// - Parameter longestValue: bytes of a text or blob of a foreign file; a longer one makes its statement fail.
    public init(path: String, mode: Mode, longestValue: Int32 = 1 << 20) throws {
        self.path = path
        var opened: OpaquePointer?
        let result: Int32
        switch mode {
        case .readWrite:
            result = sqlite3_open_v2(path, &opened, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nil)
        case .foreign:
            result = sqlite3_open_v2(
                Self.immutableURI(path), &opened, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                nil)
        }
        guard result == SQLITE_OK, let opened else {
            let message = String(cString: sqlite3_errstr(result))
            if let opened { sqlite3_close_v2(opened) }
            throw SQLiteError(code: result, message: message, context: path)
        }
        handle = opened
        sqlite3_extended_result_codes(handle, 1)
        if case .foreign = mode { defend(longestValue: longestValue) }
    }

    deinit { sqlite3_close_v2(handle) }

    /// Runs statements that return no rows of interest.
    public func execute(_ sql: String) throws {
        let result = sqlite3_exec(handle, sql, nil, nil, nil)
        guard result == SQLITE_OK else { throw error(result, sql) }
    }

    /// A compiled statement; keep it for as long as it is used again.
    public func prepare(_ sql: String) throws -> SQLiteStatement {
        var statement: OpaquePointer?
        let result = sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil)
        guard result == SQLITE_OK, let statement else { throw error(result, sql) }
        return SQLiteStatement(handle: statement, database: self, sql: sql)
    }

    /// Runs `body` between BEGIN and COMMIT; an error rolls back.
    public func transaction<R>(_ body: () throws -> R) throws -> R {
        try execute("BEGIN IMMEDIATE")
        do {
            let value = try body()
            try execute("COMMIT")
            return value
        } catch {
            try? execute("ROLLBACK")
            throw error
        }
    }

    /// Rows that the last INSERT, UPDATE or DELETE touched.
    public var changes: Int { Int(sqlite3_changes(handle)) }

    func error(_ code: Int32, _ context: String) -> SQLiteError {
        SQLiteError(code: code, message: String(cString: sqlite3_errmsg(handle)), context: context)
    }

    /// `file:` URI with everything escaped that means something in one.
    private static func immutableURI(_ path: String) -> String {
        var uri = "file:"
        for byte in path.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "/"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                uri.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let hex = String(byte, radix: 16, uppercase: true)
                uri += "%" + (hex.count == 1 ? "0" + hex : hex)
            }
        }
        return uri + "?immutable=1"
    }

    /// Nothing in a foreign schema may run, write, or cost without bound.
    private func defend(longestValue: Int32) {
        for (option, value) in [
            (SQLITE_DBCONFIG_DEFENSIVE, 1), (SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0), (SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
            (SQLITE_DBCONFIG_ENABLE_TRIGGER, 0), (SQLITE_DBCONFIG_ENABLE_VIEW, 0), (SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0),
            (SQLITE_DBCONFIG_WRITABLE_SCHEMA, 0),
        ] {
            _ = chunkmesh_sqlite_db_config(handle, option, Int32(value))
        }
        sqlite3_limit(handle, SQLITE_LIMIT_LENGTH, longestValue)
        sqlite3_limit(handle, SQLITE_LIMIT_SQL_LENGTH, 1 << 16)
        sqlite3_limit(handle, SQLITE_LIMIT_COLUMN, 100)
        sqlite3_limit(handle, SQLITE_LIMIT_EXPR_DEPTH, 32)
        sqlite3_limit(handle, SQLITE_LIMIT_COMPOUND_SELECT, 4)
        sqlite3_limit(handle, SQLITE_LIMIT_VDBE_OP, 25_000)
        sqlite3_limit(handle, SQLITE_LIMIT_ATTACHED, 0)
        sqlite3_limit(handle, SQLITE_LIMIT_TRIGGER_DEPTH, 1)
        _ = sqlite3_exec(handle, "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY", nil, nil, nil)
    }
}
