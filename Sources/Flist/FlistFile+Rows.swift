internal import SQLiteFile

/// A value as a foreign table holds it, whatever the column's declaration says.
public enum FlistValue: Hashable, Sendable {
    case integer(Int64)
    case text([UInt8])
    case blob([UInt8])
    /// Also stands for floating-point numbers, which nothing in an flist is.
    case null
}

extension FlistFile {
    /// The tables whose rows are copied when an flist is written anew.
    public enum Table: Sendable {
        case inode, extra, block
        /// What could not be used of a flist of another format that this one was made from (`FlistIndexTables`).
        case problem
    }

    /// Calls `body` with each row of a table in the order of its row numbers, reachable or not, good or refused: for copies that read
    /// exactly as the original does. Columns come in the order of FORMATS.md §1.1.
    ///
    /// Streams; the other look-ups go on meanwhile, on other connections.
    ///
    /// - Throws: `FlistError` when the table cannot be read (also when a value is over a megabyte), and what `body` throws.
    public func forEachRow(of table: Table, _ body: ([FlistValue]) throws -> Void) throws {
        var failure: (any Error)?
        try withConnection { connection in
            let (columns, count, name, order): (String, Int, String, String)
            switch table {
            case .inode: (columns, count, name, order) = ("ino, \(FlistConnection.inodeColumns)", 10, "inode", "ino")
            case .extra:
                guard connection.schema.hasExtra else { return }
                (columns, count, name, order) = ("ino, data", 2, "extra", "ino")
            case .problem:
                guard connection.problemRows != nil else { return }
                (columns, count, name, order) = ("parent, name, reason, kept", 4, FlistIndexTables.problems, "rowid")
            case .block: (columns, count, name, order) = ("ino, id, key", 3, "block", connection.schema.blockRowid)
            }
            let rows = try connection.database.prepare("select \(columns) from \(name) order by \(order)")
            while try rows.step() {
                let values = (0..<count).map { FlistValue(rows, column: $0) }
                do { try body(values) } catch {
                    failure = error
                    return
                }
            }
        }
        if let failure { throw failure }
    }
}

extension FlistValue {
    fileprivate init(_ row: SQLiteStatement, column: Int) {
        switch row.kind(column) {
        case .integer: self = row.integer(column).map { .integer($0) } ?? .null
        case .text: self = .text(row.bytes(column) ?? [])
        case .blob: self = .blob(row.bytes(column) ?? [])
        case .real, .null: self = .null
        }
    }
}
