import Foundation
import SQLiteFile
import Testing

/// Each of these fails when one of the defences of `Mode.foreign` is dropped.
@Suite struct ForeignFileTests {
    /// A database as its maker left it, opened as a foreign one. `forge` changes rows of sqlite_master, which SQLite would refuse to write.
    private final class Foreign {
        let path = NSTemporaryDirectory() + "chunkmesh-foreign-\(UUID().uuidString).db"
        let database: SQLiteDatabase

        init(_ sql: String, forge: String? = nil, change: (inout Data) -> Void = { _ in }) throws {
            do {
                let own = try SQLiteDatabase(path: path, mode: .readWrite)
                try own.execute("PRAGMA page_size=512; PRAGMA journal_mode=OFF; " + sql)
                if let forge { try own.execute("PRAGMA writable_schema=ON; " + forge) }
            }
            var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
            change(&bytes)
            try bytes.write(to: URL(fileURLWithPath: path))
            database = try SQLiteDatabase(path: path, mode: .foreign)
        }
        deinit { for suffix in ["", "-journal", "-wal", "-shm"] { unlink(path + suffix) } }

        func rows(_ sql: String) throws -> Int {
            let statement = try database.prepare(sql)
            var count = 0
            while try statement.step() { count += 1 }
            return count
        }
        func text(_ sql: String) throws -> String? {
            let statement = try database.prepare(sql)
            return try statement.step() ? statement.text(0) : nil
        }
        func number(_ sql: String) throws -> Int64? {
            let statement = try database.prepare(sql)
            return try statement.step() ? statement.integer(0) : nil
        }
    }

    @Test func itsSettingsAreOutOfReach() throws {
        let foreign = try Foreign("CREATE TABLE t (a)")
        // DEFENSIVE makes this do nothing.
        #expect(try foreign.text("PRAGMA journal_mode=OFF") != "off")
        #expect(try foreign.number("PRAGMA trusted_schema") == 0)
        #expect(try foreign.number("PRAGMA mmap_size").map { $0 == 0 } ?? true)
        #expect(try foreign.number("PRAGMA cell_size_check") == 1)
        #expect(try foreign.number("PRAGMA ignore_check_constraints") == 1)
    }

    @Test func nothingIsWrittenNorAttachedNorLoaded() throws {
        let foreign = try Foreign("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
        let before = try Data(contentsOf: URL(fileURLWithPath: foreign.path))
        for sql in [
            "INSERT INTO t VALUES (2)", "DROP TABLE t", "CREATE TABLE u (a)", "VACUUM", "VACUUM INTO '\(foreign.path)-wal'",
            "ATTACH ':memory:' AS x", "ATTACH '\(foreign.path)' AS main2", "SELECT load_extension('libm.so.6')",
            "SELECT fts3_tokenizer('simple')", "SELECT writefile('\(foreign.path)-wal', 'x')",
        ] {
            #expect(throws: SQLiteError.self, "\(sql)") { try foreign.database.execute(sql) }
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: foreign.path)) == before)
        #expect(!FileManager.default.fileExists(atPath: foreign.path + "-wal"))
    }

    /// A journal beside the file would be rolled back, and a log read, if it were not opened as immutable.
    @Test func whatLiesBesideItIsNotTouched() throws {
        let foreign = try Foreign("CREATE TABLE t (a); INSERT INTO t VALUES (1)") { bytes in (bytes[18], bytes[19]) = (2, 2) }
        let before = try Data(contentsOf: URL(fileURLWithPath: foreign.path))
        let magic: [UInt8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 2, 0]
        let journal = Data(magic + [UInt8](repeating: 0, count: 484))
        for suffix in ["-journal", "-wal"] { try journal.write(to: URL(fileURLWithPath: foreign.path + suffix)) }
        let again = try SQLiteDatabase(path: foreign.path, mode: .foreign)
        let rows = try again.prepare("SELECT a FROM t")
        #expect(try rows.step() && rows.integer(0) == 1)
        #expect(try Data(contentsOf: URL(fileURLWithPath: foreign.path)) == before)
        for suffix in ["-journal", "-wal"] { #expect(try Data(contentsOf: URL(fileURLWithPath: foreign.path + suffix)) == journal) }
        #expect(!FileManager.default.fileExists(atPath: foreign.path + "-shm"))
    }

    @Test func aViewIsNotRead() throws {
        let foreign = try Foreign("CREATE TABLE t (a); CREATE VIEW v AS SELECT a FROM t")
        #expect(throws: SQLiteError.self) { try foreign.rows("SELECT * FROM v") }
        #expect(try foreign.rows("SELECT * FROM t") == 0)
    }

    @Test(arguments: [
        "CREATE VIRTUAL TABLE x USING fts5(a)", "CREATE VIRTUAL TABLE x USING fts4(a)", "CREATE VIRTUAL TABLE x USING rtree(id, a, b)",
        "CREATE VIRTUAL TABLE x USING dbstat",
    ])
    func aVirtualTableIsNotRead(sql: String) throws {
        // Called a plain table with pages of its own, which is what its row of sqlite_master says and its definition does not.
        guard let foreign = try? Foreign("CREATE TABLE t (a); " + sql, forge: "UPDATE sqlite_master SET rootpage = 2 WHERE name = 'x'")
        else {
            return
        }
        #expect(throws: SQLiteError.self) { try foreign.rows("SELECT * FROM x") }
        #expect(throws: SQLiteError.self) { try foreign.rows("SELECT * FROM dbstat") }
    }

    /// Minutes of work in a single step of SQLite's machine, if it were done.
    static let slow = "instr(zeroblob(1000000), zeroblob(500000) || x'01' || a)"

    @Test(arguments: [
        "CREATE TABLE t (a); CREATE INDEX i ON t (\(slow)); ", "CREATE TABLE t (a); CREATE INDEX i ON t (a) WHERE \(slow) = 0; ",
        "CREATE TABLE t (a, b AS (\(slow))); CREATE INDEX i ON t (b); ",
        "CREATE TABLE t (a, b GENERATED ALWAYS AS (length(printf('%.900000c', a))) STORED); ",
        "CREATE TABLE t (a); CREATE INDEX i ON t (a) WHERE a LIKE '%a%a%a%a%a%b'; ",
    ])
    func functionsInASchemaAreNotCalled(schema: String) throws {
        let start = ContinuousClock.now
        let rows = "INSERT INTO t (a) VALUES (1)"
        let empty = try Foreign(schema)
        // The row is there, the index entry is not: a check would have to make it.
        let foreign = schema.contains("STORED") ? empty : try Foreign("CREATE TABLE t (a); " + rows, forge: Self.forging(schema))
        for file in [empty, foreign] {
            let error = #expect(throws: SQLiteError.self) { try file.rows("PRAGMA integrity_check") }
            #expect(error?.isDamage == true, "\(error?.description ?? "")")
            #expect(throws: SQLiteError.self) { try file.rows("SELECT * FROM t") }
        }
        #expect(ContinuousClock.now - start < .seconds(2))
    }

    /// Statements that put the definitions of `schema` in place of the table that is there.
    private static func forging(_ schema: String) -> String {
        let quoted = schema.split(separator: ";").map { $0.trimmingCharacters(in: .whitespaces).replacingOccurrences(of: "'", with: "''") }
            .filter { !$0.isEmpty }
        return "UPDATE sqlite_master SET sql = '\(quoted[0])' WHERE name = 't'; "
            + quoted.dropFirst().map { "INSERT INTO sqlite_master VALUES ('index', 'i', 't', 2, '\($0)'); " }.joined()
    }

    @Test func aCheckConstraintIsNotEvaluated() throws {
        let start = ContinuousClock.now
        let foreign = try Foreign("CREATE TABLE t (a CHECK (a > 5)); PRAGMA ignore_check_constraints=ON; INSERT INTO t VALUES (1)")
        #expect(try foreign.rows("PRAGMA integrity_check") == 1)
        // Nor does the table load when the constraint calls something.
        let calling = try Foreign("CREATE TABLE t (a CHECK (\(Self.slow) = 0))")
        _ = try? calling.rows("PRAGMA integrity_check")
        #expect(ContinuousClock.now - start < .seconds(2))
    }

    @Test func triggersDoNotHinderReading() throws {
        let foreign = try Foreign(
            "CREATE TABLE t (a); INSERT INTO t VALUES (1); CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT load_extension('x'); END")
        #expect(try foreign.rows("SELECT * FROM t") == 1)
    }

    @Test func limitsHold() throws {
        let long = try Foreign("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(2000000))")
        let tooBig = #expect(throws: SQLiteError.self) { try long.rows("SELECT a FROM t") }
        #expect(tooBig?.code == 18)
        let columns = (0..<200).map { "c\($0)" }.joined(separator: ", ")
        #expect(throws: SQLiteError.self) { try Foreign("CREATE TABLE t (\(columns))").rows("SELECT * FROM t") }
        // The text of the schema itself: a megabyte of comment, an expression without end.
        let comment = "CREATE TABLE t (a /* " + String(repeating: "x", count: 100_000) + " */)"
        #expect(throws: SQLiteError.self) { try Foreign(comment).rows("SELECT * FROM t") }
        let deep = "CREATE TABLE t (a DEFAULT (" + String(repeating: "-(", count: 60) + "1" + String(repeating: ")", count: 60) + "))"
        #expect(throws: SQLiteError.self) { try Foreign(deep).rows("SELECT * FROM t") }
        let plain = try Foreign("CREATE TABLE t (a)")
        #expect(throws: SQLiteError.self) { try plain.rows("SELECT 1" + String(repeating: " UNION ALL SELECT 1", count: 10)) }
        #expect(throws: SQLiteError.self) { try plain.rows("SELECT '" + String(repeating: "x", count: 70_000) + "'") }
    }

    @Test func aDamagedFreelistIsNoticedAndNotFollowed() throws {
        let foreign = try Foreign(
            "CREATE TABLE t (a); CREATE TABLE u (a); INSERT INTO u VALUES (zeroblob(20000)); DROP TABLE u; INSERT INTO t VALUES (7)"
        ) { bytes in bytes.replaceSubrange(32..<40, with: [0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff]) }
        #expect(try foreign.number("SELECT a FROM t") == 7)
        #expect(try foreign.text("PRAGMA integrity_check(1)") != "ok")
    }

    /// Eight pages that each name the next one seventy times: 70⁸ rows in a file of some kilobytes.
    @Test(arguments: ["SELECT a FROM t", "SELECT a FROM t WHERE a = 'nothing'", "SELECT a FROM t ORDER BY a"])
    func pagesThatLeadInCirclesEndAsDamage(sql: String) throws {
        let foreign = try Foreign("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (3)") { bytes in
            let first = bytes.count / 512 + 1
            let leaf = bytes[512..<1024]
            for level in 0..<8 {
                let page = Self.interior(child: first + level)
                if level == 0 { bytes.replaceSubrange(512..<1024, with: page) } else { bytes += page }
            }
            bytes += leaf
            let pages = UInt32(bytes.count / 512).bigEndian
            withUnsafeBytes(of: pages) { bytes.replaceSubrange(28..<32, with: $0) }
        }
        let start = ContinuousClock.now
        let error = #expect(throws: SQLiteError.self) { try foreign.rows(sql) }
        #expect(error?.isDamage == true)
        #expect(error?.message == "its pages lead in circles")
        #expect(try foreign.text("PRAGMA integrity_check(1)") != "ok")
        #expect(ContinuousClock.now - start < .seconds(10))
    }

    /// An interior page of a table, 512 bytes, all of whose cells name `child`.
    private static func interior(child: Int) -> [UInt8] {
        let count = 70
        var page = [UInt8](repeating: 0, count: 512)
        func put(_ value: Int, _ bytes: Int, at offset: Int) {
            for i in 0..<bytes { page[offset + i] = UInt8(truncatingIfNeeded: value >> (8 * (bytes - 1 - i))) }
        }
        page[0] = 5
        put(count, 2, at: 3)
        put(512 - 5 * count, 2, at: 5)
        put(child, 4, at: 8)
        for cell in 0..<count {
            put(512 - 5 * (cell + 1), 2, at: 12 + 2 * cell)
            put(child, 4, at: 512 - 5 * (cell + 1))
            page[512 - 5 * cell - 1] = UInt8(cell + 1)
        }
        return page
    }
}
