internal import Flist
internal import SQLiteFile

/// `flistdb.sqlite3` of a legacy flist (FORMATS.md §2.2): records by their keys. One thread.
final class LegacyDatabase {
    /// Bytes of a value of the metadata that are kept; longer ones are left out.
    static let maxMetadataBytes = 64 << 10
    static let maxMetadataRows = 256

    private let database: SQLiteDatabase
    private let record: SQLiteStatement
    private let hasMetadata: Bool

    /// - Throws: `FlistError` when it is no such database; SQLite's errors.
    init(path: String) throws {
        database = try SQLiteDatabase(path: path, mode: .foreign, longestValue: Int32(CapnpMessage.maxBytes))
        guard try database.kind(of: "entries") == .table else {
            throw FlistError(.notFlist, "not a legacy .flist: its database has no table entries")
        }
        guard try Self.has(["key", "value"], in: "entries", of: database) else {
            throw FlistError(.notFlist, "not a legacy .flist: table entries lacks a column")
        }
        // Without an index each look-up would read the whole table.
        guard let index = try database.index(on: "key", of: "entries") else {
            throw FlistError(.damaged, "damaged legacy .flist: table entries has no index on its keys")
        }
        record = try database.prepare("select value from entries indexed by \(index) where key = ? collate binary limit 1")
        hasMetadata = try database.kind(of: "metadata") == .table && Self.has(["key", "value"], in: "metadata", of: database)
    }

    private static func has(_ names: [String], in table: String, of database: SQLiteDatabase) throws -> Bool {
        let columns = try database.columns(of: table)
        return names.allSatisfy { name in columns.contains { $0.name == name && !$0.hidden } }
    }

    /// `nil` when there is none, or when it is neither text nor blob.
    ///
    /// - Throws: `CapnpError` when it is longer than any record may be.
    func value(_ key: [UInt8]) throws -> [UInt8]? {
        record.bind(text: key, at: 1)
        defer { record.reset() }
        do {
            return try record.step() ? record.bytes(0) : nil
        } catch let error as SQLiteError where error.code & 0xff == 18 {
            throw CapnpError("record of more than \(CapnpMessage.maxBytes) bytes", endsMessage: true)
        }
    }

    /// Keys and JSON values, in the order of their rows.
    func metadata() throws -> [(key: [UInt8], value: [UInt8])] {
        guard hasMetadata else { return [] }
        let statement = try database.prepare(
            "select key, value from metadata where length(key) <= 255 and length(value) <= \(Self.maxMetadataBytes) order by key"
                + " limit \(Self.maxMetadataRows)")
        var out: [(key: [UInt8], value: [UInt8])] = []
        while try statement.step() {
            if let key = statement.bytes(0), let value = statement.bytes(1) { out.append((key, value)) }
        }
        return out
    }
}
