import BlockCodec
import ChunkModel
import Flist
import Foundation
import SQLiteFile
import Testing

@Suite struct FlistFileTests {
    @Test func viewsAndVirtualTablesAreNoTables() throws {
        let view = try MadeFlist(
            "ALTER TABLE block RENAME TO other; CREATE VIEW block AS SELECT * FROM other", indexes: "")
        #expect(throws: FlistError.self) { try view.open() }
        let virtual = try? MadeFlist("DROP TABLE inode; CREATE VIRTUAL TABLE inode USING fts5(ino, parent, name)", indexes: "")
        if let virtual { #expect(throws: FlistError.self) { try virtual.open() } }
        // Its row of the schema calls it a table with pages; its definition does not.
        let forged = try? MadeFlist(
            "CREATE VIRTUAL TABLE other USING fts5(ino, id, key); DROP TABLE block; PRAGMA writable_schema=ON;",
            "UPDATE sqlite_master SET name = 'block', tbl_name = 'block', rootpage = 2, sql = replace(sql, 'other', 'block') WHERE name = 'other'",
            indexes: "")
        if let forged { #expect(throws: FlistError.self) { try forged.open() } }
        let generated = try MadeFlist(
            schema: MadeFlist.schema.replacingOccurrences(of: "mode INTEGER,", with: "mode INTEGER AS (16877),").replacingOccurrences(
                of: "INSERT INTO inode VALUES (1, 0, '/', 0, 0, 0, 16877, 0, 0, 0);",
                with: "INSERT INTO inode (ino, parent, name, size, uid, gid, rdev, ctime, mtime) VALUES (1, 0, '/', 0, 0, 0, 0, 0, 0);"))
        #expect(throws: FlistError.self) { try generated.open() }
        let noRowids = try MadeFlist("DROP TABLE block; CREATE TABLE block (ino INTEGER, id, key, PRIMARY KEY (ino, id)) WITHOUT ROWID")
        #expect(throws: FlistError.self) { try noRowids.open() }
    }

    @Test func aTruncatedFileIsRefused() throws {
        let made = try MadeFlist((2..<3000).map { MadeFlist.row($0, 1, "file-\($0)") }.joined())
        let all = try #require(FileManager.default.contents(atPath: made.path))
        for count in [0, 1, 15, 16, 99, 100, 511, 512, 4096, all.count / 2, all.count - 4096, all.count - 1] {
            try all.prefix(count).write(to: URL(fileURLWithPath: made.path))
            #expect(throws: FlistError.self, "\(count) bytes") {
                let flist = try made.open()
                try flist.checkIntegrity()
            }
        }
    }

    @Test func aFileInWalModeWithoutItsLogIsRead() throws {
        let made = try MadeFlist(MadeFlist.row(2, 1, "a"))
        let file = try #require(FileHandle(forUpdatingAtPath: made.path))
        try file.seek(toOffset: 18)
        try file.write(contentsOf: Data([2, 2]))
        try file.close()
        #expect(try made.open().lookup(parent: 1, name: bytes("a"))?.ino == 2)
    }

    @Test(arguments: [MadeFlist.indexes, ""])
    func listingsAndLookUpsAgreeWithAndWithoutIndexes(indexes: String) throws {
        let made = try MadeFlist(
            MadeFlist.directory(2, 1, "d"), MadeFlist.directory(3, 1, "e"), (10..<2510).map { MadeFlist.row($0, 2, "f\($0)") }.joined(),
            (3000..<3500).map { MadeFlist.directory($0, 3, "s\($0)") + MadeFlist.row($0 + 1000, $0, "same") }.joined(),
            MadeFlist.block(10, 7), MadeFlist.block(11, 8), MadeFlist.block(10, 9),
            "UPDATE inode SET size = 600000 WHERE ino = 10;", indexes: indexes)
        let flist = try made.open()
        var names: [[UInt8]] = []
        var after: Int64?
        repeat {
            let page = try flist.children(of: 2, after: after, limit: 100)
            #expect(page.problems.isEmpty)
            names += page.entries.map(\.name)
            after = page.next
        } while after != nil
        #expect(names == (10..<2510).map { bytes("f\($0)") })
        for ino in [10, 11, 1200, 2509] as [Int64] { #expect(try flist.lookup(parent: 2, name: bytes("f\(ino)"))?.ino == ino) }
        for ino in [3000, 3250, 3499] as [Int64] { #expect(try flist.lookup(parent: ino, name: bytes("same"))?.ino == ino + 1000) }
        #expect(try flist.lookup(parent: 2, name: bytes("same")) == nil)
        #expect(try flist.lookup(parent: 2, name: bytes("..")) == nil)
        #expect(try flist.blocks(of: flist.resolve(bytes("/d/f10"))).map(\.id.firstByte) == [7, 9])
        #expect(try flist.uniqueChunks().map(\.firstByte) == [7, 8, 9])
        #expect(try flist.uniqueChunksAndWholeBlocks().wholeBlocks.count == 1)
        #expect(try flist.totals().files == 3000)
        #expect(throws: FlistError.self) { try flist.children(of: 10) }
        #expect(throws: FlistError.self) { try flist.children(of: 99_999) }
    }

    @Test func duplicatesAreFoundOnWhateverPage() throws {
        let made = try MadeFlist(
            MadeFlist.row(2, 1, "a", mode: 0), (3..<40).map { MadeFlist.row($0, 1, "n\($0)") }.joined(), MadeFlist.row(50, 1, "a"),
            MadeFlist.row(51, 1, "n20"), "INSERT INTO inode VALUES (52, 1, CAST('n5' AS BLOB), 0, 0, 0, 33188, 0, 0, 0);",
            MadeFlist.row(53, 1, "a"))
        let flist = try made.open()
        for limit in [1, 7, 4096] {
            var problems: [Int64?] = []
            var entries: [Int64] = []
            var after: Int64?
            repeat {
                let page = try flist.children(of: 1, after: after, limit: limit)
                problems += page.problems.map(\.ino)
                entries += page.entries.map(\.ino)
                after = page.next
            } while after != nil
            #expect(problems == [2, 51, 52, 53], "limit \(limit)")
            #expect(entries == (3..<40) + [50])
        }
        // A page out of the middle knows the names before it.
        #expect(try flist.children(of: 1, after: 50).problems.map(\.ino) == [51, 52, 53])
        #expect(try flist.lookup(parent: 1, name: bytes("a"))?.ino == 50)
        #expect(try flist.lookup(parent: 1, name: bytes("n5"))?.ino == 5)
    }

    @Test(arguments: ["CREATE INDEX parents ON inode (parent)", MadeFlist.indexes])
    func anOverlongValueSpoilsItsRowOnly(indexes: String) throws {
        let made = try MadeFlist(
            "INSERT INTO inode VALUES (2, 1, CAST(zeroblob(3000000) AS TEXT), 0, 0, 0, 33188, 0, 0, 0);", MadeFlist.row(3, 1, "b", size: 5),
            "INSERT INTO block VALUES (3, zeroblob(3000000), x'00')", "INSERT INTO route VALUES (0, 255, CAST(zeroblob(3000000) AS TEXT))",
            "INSERT INTO route VALUES (0, 255, 'dir:///a')", indexes: indexes)
        let flist = try made.open()
        let page = try flist.children(of: 1)
        #expect(page.entries.map(\.ino) == [3])
        #expect(page.problems.map(\.ino) == [2])
        #expect(flist.routes.map(\.url) == ["dir:///a"])
        #expect(try flist.lookup(parent: 1, name: bytes("b"))?.ino == 3)
        #expect(throws: FlistError(.badBlocks, "bad id of block 0 (not 32 bytes, nor 16)")) { try flist.blocks(of: page.entries[0]) }
        #expect(try flist.uniqueChunks() == [])
    }

    @Test func aRowThatMakesTheRootAChildIsNoWayBackUp() throws {
        let made = try MadeFlist(
            MadeFlist.directory(0, 1, "zero"), MadeFlist.directory(5, 5, "self"), MadeFlist.directory(6, 7, "x"),
            MadeFlist.directory(7, 6, "y"))
        let flist = try made.open()
        var walker = FlistWalker(flist, below: flist.root())
        var entries = 0
        while let item = try walker.next() {
            if case .entry = item { entries += 1 }
        }
        #expect(entries == 0)
    }

    @Test func filesWithChildrenAreReported() throws {
        let flist = try MadeFlist(MadeFlist.row(2, 1, "f"), MadeFlist.row(3, 2, "below")).open()
        var walker = FlistWalker(flist, below: flist.root())
        var seen: [String] = []
        while let item = try walker.next() {
            switch item {
            case .entry(let visit): seen.append(String(decoding: visit.path, as: UTF8.self))
            case .problem(let problem): seen.append("!" + problem.line)
            }
        }
        #expect(seen.count == 2 && seen.contains("/f") && seen.contains { $0.hasPrefix("!/f: has entries below it") })
    }

    @Test func manyThreadsLookUpAtOnce() async throws {
        let made = try MadeFlist((2..<502).map { MadeFlist.row($0, 1, "f\($0)") }.joined())
        let flist = try made.open()
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for n in 0..<8 as Range<Int64> {
                group.addTask {
                    for ino in 2..<502 as Range<Int64> {
                        let wanted = 2 + (ino + n * 61) % 500
                        guard try flist.lookup(parent: 1, name: bytes("f\(wanted)"))?.ino == wanted else { return false }
                    }
                    return true
                }
            }
            for try await right in group { #expect(right) }
        }
    }
}
