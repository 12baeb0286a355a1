internal import CSQLite
internal import Glibc

/// What SQLite answered, with the statement or file that it was about.
public struct SQLiteError: Error, CustomStringConvertible, Sendable {
    /// SQLite's (extended) result code.
    public let code: Int32
    public let message: String
    public let context: String

    /// The file is no database, its pages do not hold together, or they keep a statement busier than its size explains.
    public var isDamage: Bool { [SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_FORMAT, SQLITE_INTERRUPT].contains(code & 0xff) }
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

    /// Virtual machine steps that a statement on a foreign file may take in any case, and for each byte of the file. Honest scans and
    /// checks take less than three a byte; only pages that lead in circles take more, and the statement ends as damage.
    private static let stepsAtLeast = 4_000_000
    private static let stepsForEachByte = 16
    /// How many steps pass between two looks at what is left.
    private static let stepsBetweenLooks = 10_000

    let handle: OpaquePointer
    let path: String
    /// Of the statement that runs; unlimited for files of our own.
    private let effort: Effort

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
        effort = Effort()
        sqlite3_extended_result_codes(handle, 1)
        if case .foreign = mode { defend(longestValue: longestValue) }
    }

    deinit { sqlite3_close_v2(handle) }

    /// Steps that are left, in looks; SQLite's progress handler counts them down.
    private final class Effort {
        var full = Int.max
        var left = Int.max
    }

    /// A statement begins.
    func refillEffort() { effort.left = effort.full }

    /// Runs statements that return no rows of interest.
    public func execute(_ sql: String) throws {
        refillEffort()
        let result = sqlite3_exec(handle, sql, nil, nil, nil)
        guard result == SQLITE_OK else { throw error(result, sql) }
    }

    /// A compiled statement; keep it for as long as it is used again.
    public func prepare(_ sql: String) throws -> SQLiteStatement {
        var statement: OpaquePointer?
        refillEffort()
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
        let message = code & 0xff == SQLITE_INTERRUPT ? "its pages lead in circles" : String(cString: sqlite3_errmsg(handle))
        return SQLiteError(code: code, message: message, context: context)
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

    /// Functions that statements on a foreign file may call, and so its schema too: none makes more of its arguments than they are.
    private static let allowedFunctions: Set<String> = [
        "abs", "coalesce", "count", "ifnull", "length", "max", "min", "nullif", "substr", "sum", "total", "typeof",
    ]

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
        sqlite3_limit(handle, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1)
        // integrity_check evaluates these else; whatever wrote the file was to keep them.
        _ = sqlite3_exec(
            handle, "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY; PRAGMA ignore_check_constraints=ON", nil,
            nil, nil)
        forbidFunctions()
        // No virtual tables, whatever the schema calls them: their modules would parse what the file holds.
        sqlite3_drop_modules(handle, nil)
        limitEffort()
    }

    /// Puts failing ones in the place of SQLite's functions: integrity_check would evaluate them for each row of an index on an
    /// expression, and one call of `instr` or `replace` may take hours. Since the schema is not trusted, it does not even load when it
    /// names one.
    private func forbidFunctions() {
        var list: OpaquePointer?
        guard sqlite3_prepare_v2(handle, "PRAGMA function_list", -1, &list, nil) == SQLITE_OK, let list else { return }
        var names: Set<String> = []
        while sqlite3_step(list) == SQLITE_ROW {
            if let name = sqlite3_column_text(list, 0) { names.insert(String(cString: name).lowercased()) }
        }
        sqlite3_finalize(list)
        for name in names.subtracting(Self.allowedFunctions) {
            sqlite3_create_function_v2(
                handle, name, -1, SQLITE_UTF8, nil, { context, _, _ in sqlite3_result_error(context, "no function of a foreign file", -1) },
                nil, nil, nil)
        }
    }

    /// A few pages that name each other again and again hold more rows than anybody can read.
    private func limitEffort() {
        var status = stat()
        let bytes = stat(path, &status) == 0 ? max(0, status.st_size) : 0
        let (forBytes, overflow) = bytes.multipliedReportingOverflow(by: Self.stepsForEachByte)
        effort.full = (Self.stepsAtLeast + (overflow ? Int.max / 2 : min(forBytes, Int.max / 2))) / Self.stepsBetweenLooks
        effort.left = effort.full
        sqlite3_progress_handler(
            handle, Int32(Self.stepsBetweenLooks),
            { context in
                guard let context else { return 0 }
                let effort = Unmanaged<Effort>.fromOpaque(context).takeUnretainedValue()
                effort.left -= 1
                return effort.left < 0 ? 1 : 0
            }, Unmanaged.passUnretained(effort).toOpaque())
    }
}
