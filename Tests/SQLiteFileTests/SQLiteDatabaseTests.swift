import Foundation
import SQLiteFile
import Testing

@Suite struct SQLiteDatabaseTests {
    let path = NSTemporaryDirectory() + "chunkmesh sqlite ?#%\(UUID().uuidString).db"

    @Test func aForeignFileIsReadAndNeverWritten() throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        let own = try SQLiteDatabase(path: path, mode: .readWrite)
        try own.execute("CREATE TABLE t (a, b, c); INSERT INTO t VALUES (1, x'00ff', 'text'), (NULL, 2.5, '')")
        let foreign = try SQLiteDatabase(path: path, mode: .foreign)
        let rows = try foreign.prepare("SELECT a, b, c FROM t ORDER BY rowid")
        #expect(try rows.step())
        #expect(rows.integer(0) == 1 && rows.bytes(1) == [0, 0xff] && rows.text(2) == "text")
        #expect(rows.integer(2) == nil && rows.bytes(0) == nil)
        #expect(try rows.step())
        #expect(rows.kind(0) == .null && rows.kind(1) == .real && rows.bytes(2) == [])
        #expect(try !rows.step())
        #expect(throws: SQLiteError.self) { try foreign.execute("DELETE FROM t") }
        #expect(throws: SQLiteError.self) { try foreign.execute("ATTACH ':memory:' AS x") }
    }

    @Test func whatIsNoDatabaseIsCalledDamaged() throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(repeating: 65, count: 5000).write(to: URL(fileURLWithPath: path))
        let error = #expect(throws: SQLiteError.self) {
            _ = try SQLiteDatabase(path: path, mode: .foreign).prepare("SELECT * FROM t")
        }
        #expect(error?.isDamage == true)
    }

    @Test func aFailedTransactionLeavesNothing() throws {
        let database = try SQLiteDatabase(path: ":memory:", mode: .readWrite)
        try database.execute("CREATE TABLE t (a PRIMARY KEY)")
        #expect(throws: SQLiteError.self) {
            try database.transaction { try database.execute("INSERT INTO t VALUES (1); INSERT INTO t VALUES (1)") }
        }
        let count = try database.prepare("SELECT count(*) FROM t")
        #expect(try count.step() && count.integer(0) == 0)
    }
}
