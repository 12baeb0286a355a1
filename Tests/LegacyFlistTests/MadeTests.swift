import ChunkModel
import Flist
import FlistTools
import Foundation
import LegacyFlist
import Testing

/// Flists that Tests/Support/make_legacy.py writes: what the fixtures do not show.
@Suite struct MadeTests {
    private let scratch: Scratch
    init() throws { scratch = try Scratch() }

    private func make(_ scenario: String, _ number: Int? = nil) throws -> String {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Support/make_legacy.py").path
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["python3", script, scratch.sub("\(scenario).flist"), scenario] + (number.map { ["\($0)"] } ?? [])
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        return scratch.sub("\(scenario).flist")
    }

    private func entry(_ flist: FlistFile, _ path: String) throws -> FlistEntry { try flist.resolve(Array(path.utf8), followLinks: false) }

    /// Names and reasons of what is refused or not whole in the root.
    private func problems(_ flist: FlistFile) throws -> [String] { try flist.children(of: 1).problems.map(\.line) }

    @Test func bytesThatWereNeverStoredAreSaid() throws {
        let flist = try openFlist(make("tail-lost"))
        let problems = try flist.children(of: 1).problems
        #expect(
            problems.map(\.line) == [
                "big: the last 1 of its 16777217 bytes, which were never stored", "none: all of its 7 bytes, which were never stored",
            ])
        #expect(problems.allSatisfy { $0.isKept })
        // What is there can still be had.
        #expect(try flist.blocks(of: entry(flist, "/big")).count == 32)
        #expect(try entry(flist, "/big").size == 16_777_217)
    }

    @Test func whatCannotBeAnEntryIsLeftOut() throws {
        let names = try openFlist(make("bad-names"))
        #expect(try problems(names).count == 3)
        #expect(try names.children(of: 1).entries.map(\.name.count).sorted() == [3, 7, 255])
        let links = try openFlist(make("bad-links"))
        #expect(try problems(links) == ["empty: symlink without target", "long: symlink target of 4096 bytes"])
        #expect(try entry(links, "/out").kind == .symlink(target: Array("../../../etc/passwd".utf8)))
        let blocks = try openFlist(make("bad-blocks"))
        #expect(
            try problems(blocks) == ["short-id: bad id of block 0 (not 16 bytes)", "long-key: bad key of block 0 (not 16 bytes)"])
        #expect(try blocks.uniqueChunks().count == 1)
        #expect(try problems(openFlist(make("huge-size"))) == ["huge: size 18446744073709551615 is out of range"])
        #expect(try problems(openFlist(make("duplicate-names"))).count == 1)
        #expect(try problems(openFlist(make("shared-directory"))) == ["two: its record is that of another directory"])
    }

    @Test func devicesAndTimes() throws {
        let flist = try openFlist(make("devices"))
        #expect(try problems(flist).map { $0.prefix(3) } == ["bad", "big"])
        #expect(try entry(flist, "/null").kind == .charDevice(major: 1, minor: 3))
        #expect(try entry(flist, "/lost").kind == .socket)
        #expect(flist.notes.contains { $0.hasPrefix("2 devices and fifos") }, "\(flist.notes)")
        let times = try openFlist(make("times"))
        #expect(try entry(times, "/f").mtime == 4_294_880_896)
        #expect(try entry(times, "/f").ctime == 5)
    }

    @Test func ownersAreNumbersOrWellKnownNames() throws {
        let flist = try openFlist(make("owners"))
        let owners = try (0..<6).map { number in
            let entry = try entry(flist, "/f\(number)")
            return [UInt32(entry.permissions), entry.uid, entry.gid]
        }
        #expect(
            owners == [
                [0o644, 3_000_000_000, 3_000_000_000], [0o4755, 3_000_000_000, 7], [0o644, 33, 5], [0o644, 1000, 1000],
                [0o400, 1000, 1000], [0o400, 1000, 1000],
            ])
        #expect(try problems(flist).count == 2)
    }

    @Test func archivesOfAllKinds() throws {
        #expect(try entry(openFlist(make("late-duplicate")), "/f").size == 5, "the later member counts")
        for (scenario, words) in [
            ("crc", "damaged archive"), ("directory-member", "no regular file"), ("no-index", "no index"), ("view", "no table entries"),
            ("no-root", "no record of its root"), ("bad-root", "root directory's record"),
        ] {
            let path = try make(scenario)
            let error = #expect(throws: FlistError.self, "\(scenario)") { try openFlist(path) }
            #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
            #expect(error?.message.contains(scenario + ".flist") == true)
        }
        let huge = try openFlist(make("huge-router"))
        #expect(huge.notes.contains { $0.contains("router.yaml is ignored: it is larger than") })
        #expect(try openFlist(make("backends")).routes == [Route(url: "zdb://:p%3Aw%2F%40@[::1]:9901/a%20b")])
    }

    @Test func depthIsBounded() throws {
        let flist = try openFlist(make("deep", 4200))
        var walker = FlistWalker(flist, below: flist.root())
        var (entries, problems) = (0, 0)
        while let item = try walker.next() {
            switch item {
            case .entry: entries += 1
            case .problem: problems += 1
            }
        }
        #expect(problems == 1 && entries == FlistFile.maxDepth - 1)
    }

    @Test func convertedFlistsAreTheSameTreeWithOtherRoutes() async throws {
        let path = try Fixtures.path("legacy/rich.flist")
        _ = try scratch.write("out.fl", [])
        let narrow = try #require(ChunkRange(from: [1, 2], through: [1, 3]))
        try LegacyConverter.convert(
            path, to: scratch.sub("out.fl"), scratch: scratch.path,
            routes: { routes in
                #expect(routes.count == 1)
                return [Route(url: "http://hub.example/blocks"), Route(range: narrow, url: "dir:///b", tier: 1)]
            })
        let (old, new) = (try openFlist(path), try FlistFile(path: scratch.sub("out.fl")))
        #expect(new.routes.map(\.url) == ["http://hub.example/blocks", "dir:///b"] && new.routes[1].range.byteCount == 2)
        #expect(try new.uniqueChunks() == old.uniqueChunks())
        let blocks = try reader(store: Fixtures.path("legacy/blocks"))
        #expect(try await FlistManifest.lines(new, blocks: blocks).lines == FlistManifest.lines(old, blocks: blocks).lines)
        #expect(scratch.names == ["out.fl"])
    }
}
