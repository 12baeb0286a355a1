internal import CSQLite

/// A compiled statement with its parameters (numbered from 1) and the columns of its current row (numbered from 0).
public final class SQLiteStatement {
    /// What a column holds, whatever its declaration says.
    public enum Kind: Sendable { case integer, real, text, blob, null }

    private let handle: OpaquePointer
    private let database: SQLiteDatabase
    private let sql: String
    private var isRunning = false

    init(handle: OpaquePointer, database: SQLiteDatabase, sql: String) {
        (self.handle, self.database, self.sql) = (handle, database, sql)
    }

    deinit { sqlite3_finalize(handle) }

    /// Goes to the next row.
    ///
    /// - Returns: `false` after the last one.
    public func step() throws -> Bool {
        if !isRunning {
            isRunning = true
            database.refillEffort()
        }
        switch sqlite3_step(handle) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        case let code: throw database.error(code, sql)
        }
    }

    /// Runs to the end, ignoring rows, and makes the statement ready for the next use.
    public func run() throws {
        defer { reset() }
        while try step() {}
    }

    /// Back to the start, parameters forgotten.
    public func reset() {
        isRunning = false
        sqlite3_reset(handle)
        sqlite3_clear_bindings(handle)
    }

    public func bind(_ value: Int64, at index: Int) { sqlite3_bind_int64(handle, Int32(index), value) }
    public func bind(_ value: Int, at index: Int) { bind(Int64(value), at: index) }
    public func bindNull(at index: Int) { sqlite3_bind_null(handle, Int32(index)) }

    public func bind(text: [UInt8], at index: Int) {
        text.withUnsafeBytes {
            _ = chunkmesh_sqlite_bind_text(handle, Int32(index), $0.baseAddress?.assumingMemoryBound(to: CChar.self), Int32($0.count))
        }
    }

    public func bind(text: String, at index: Int) { bind(text: Array(text.utf8), at: index) }

    public func bind(blob: [UInt8], at index: Int) {
        blob.withUnsafeBytes { _ = chunkmesh_sqlite_bind_blob(handle, Int32(index), $0.baseAddress, Int32($0.count)) }
    }

    public func kind(_ column: Int) -> Kind {
        switch sqlite3_column_type(handle, Int32(column)) {
        case SQLITE_INTEGER: .integer
        case SQLITE_FLOAT: .real
        case SQLITE_TEXT: .text
        case SQLITE_BLOB: .blob
        default: .null
        }
    }

    /// The integer stored there; `nil` when it is anything else, even if it looks like a number.
    public func integer(_ column: Int) -> Int64? {
        kind(column) == .integer ? sqlite3_column_int64(handle, Int32(column)) : nil
    }

    /// Bytes of a text or a blob as they are stored; `nil` for everything else.
    public func bytes(_ column: Int) -> [UInt8]? {
        switch kind(column) {
        case .text, .blob:
            let count = Int(sqlite3_column_bytes(handle, Int32(column)))
            guard count > 0, let start = sqlite3_column_blob(handle, Int32(column)) else { return [] }
            return Array(UnsafeRawBufferPointer(start: start, count: count))
        case .integer, .real, .null: return nil
        }
    }

    /// Text decoded as UTF-8, wrong sequences replaced; `nil` when the column holds no text or blob.
    public func text(_ column: Int) -> String? {
        bytes(column).map { String(decoding: $0, as: UTF8.self) }
    }
}
