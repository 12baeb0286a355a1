import ChunkModel
import Flist
import FlistTools
import Foundation
import LegacyFlist
import Testing

@Suite struct FixtureTests {
    @Test func theFixturesAreThere() throws {
        _ = try Fixtures.path("malformed-legacy/EXPECT.jsonl")
        #expect(Fixtures.expectations.count > 30)
    }

    /// zflist records no types of special files: here they are sockets.
    private func expected(_ relative: String) throws -> [String: String] {
        try Fixtures.entries(
            try Fixtures.lines(relative).map { line in
                guard line.contains("\"type\": \"special\"") else { return line }
                return line.replacing(#/"data": "[^"]*", /#, with: "").replacing("\"special\"", with: "\"socket\"")
            })
    }

    @Test(arguments: ["legacy/rich.flist", "legacy/rich-router.flist"])
    func richFlistsYieldTheirManifest(file: String) async throws {
        let flist = try openFlist(Fixtures.path(file))
        let (lines, problems) = try await FlistManifest.lines(flist, blocks: reader(store: Fixtures.path("legacy/blocks")))
        #expect(problems.isEmpty, "\(problems)")
        let (read, wanted) = (try Fixtures.entries(lines), try expected("legacy/rich.expected.jsonl"))
        #expect(read.count == wanted.count)
        for (path, entry) in wanted { #expect(read[path] == entry, "\(path)") }
    }

    @Test func routesComeFromRouterAndMetadata() throws {
        #expect(try openFlist(Fixtures.path("legacy/rich.flist")).routes == [Route(url: "zdb://127.0.0.1:9900/legacy")])
        #expect(
            try openFlist(Fixtures.path("legacy/rich-router.flist")).routes == [
                Route(range: ChunkRange(firstBytes: 0...0x7f), url: "redis://127.0.0.1:9900"),
                Route(range: ChunkRange(firstBytes: 0x80...0xff), url: "redis://127.0.0.1:9900"),
                Route(url: "redis://127.0.0.1:9900", tier: 1), Route(url: "zdb://127.0.0.1:9900", tier: 2),
            ])
    }

    @Test func whatElseTheMetadataSaysBecomesTags() throws {
        let tags = try openFlist(Fixtures.path("legacy/rich.flist")).tags
        #expect(tags.contains(FlistTag(key: "entrypoint", value: "[\"/bin/hello\", \"--flag\"]")))
        #expect(!tags.contains { $0.key == "backend" })
    }

    @Test func richFlistVerifies() async throws {
        let flist = try openFlist(Fixtures.path("legacy/rich.flist"))
        let report = try await FlistVerifier.verify(flist, source: DirStoreSource([DirStore(path: Fixtures.path("legacy/blocks"))]))
        #expect(report.isComplete, "\(report.problems) \(report.bad) \(report.missing)")
        #expect(report.chunks == (try flist.uniqueChunks().count) && report.chunks > 100)
    }

    @Test(arguments: Fixtures.expectations)
    func malformed(_ expectation: Fixtures.Expectation) async throws {
        let path = try Fixtures.path("malformed-legacy/" + expectation.file)
        let flist: FlistFile
        do {
            flist = try openFlist(path)
        } catch {
            #expect(["error", "either"].contains(expectation.kind), "\(error)")
            #expect("\(error)".contains(expectation.file) && !"\(error)".contains("\n"))
            return
        }
        let (lines, problems) = try await FlistManifest.lines(
            flist, blocks: reader(store: Fixtures.path("malformed-legacy/" + expectation.blocks)))
        for problem in problems { #expect(!problem.contains("\n") && !problem.contains("\u{1b}")) }
        let read = try Fixtures.entries(lines)
        let wanted = try Fixtures.entries(try Fixtures.lines("malformed-legacy/mini.expected.jsonl"))
        switch expectation.kind {
        case "accept":
            #expect(problems.isEmpty, "\(problems)")
            for (path, entry) in wanted { #expect(read[path] == entry, "\(path)") }
        case "error": #expect(!problems.isEmpty, "must be reported")
        default: break
        }
        // One thing is wrong with each of them: all else reads as ever.
        let differing = wanted.filter { read[$0.key] != $0.value }.map(\.key).sorted()
        let top = Set(differing.map { $0.split(separator: "/").first ?? "" })
        #expect(top.count <= 1, "\(differing)")
    }

    @Test(arguments: [
        ("truncated-gzip.flist", "cut off"), ("no-database.flist", "no flistdb.sqlite3"), ("tar-symlink-db.flist", "no regular file"),
    ])
    func refusalsAreClear(file: String, words: String) throws {
        let path = try Fixtures.path("malformed-legacy/" + file)
        let error = #expect(throws: FlistError.self) { try openFlist(path) }
        #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }

    @Test(arguments: ["router-unknown-pool.flist", "router-bad-scheme.flist"])
    func aBadRouterIsNotedAndPassedOver(file: String) throws {
        let flist = try openFlist(Fixtures.path("malformed-legacy/" + file))
        #expect(flist.notes.contains { $0.contains("router.yaml is ignored") }, "\(flist.notes)")
        #expect(flist.routes == [Route(url: "zdb://127.0.0.1:9900")])
    }

    @Test func specialFilesWithTypesKeepThem() throws {
        let flist = try openFlist(Fixtures.path("malformed-legacy/special-typed.flist"))
        #expect(try flist.resolve(Array("/s".utf8)).kind == .socket)
        #expect(try flist.resolve(Array("/b".utf8)).kind == .blockDevice(major: 8, minor: 0))
        #expect(try flist.resolve(Array("/c".utf8)).kind == .charDevice(major: 1, minor: 3))
        #expect(try flist.resolve(Array("/f".utf8)).kind == .fifo)
        #expect(try flist.resolve(Array("/u".utf8)).kind == .socket)
    }

    /// The refused entries are said by whatever looks at them.
    @Test func refusedEntriesAreNamedWhenLookedUp() throws {
        let flist = try openFlist(Fixtures.path("malformed-legacy/dir-missing.flist"))
        let page = try flist.children(of: 1)
        #expect(page.problems.map(\.line) == ["dir: directory without a record"])
        #expect(!page.problems[0].isKept && !page.entries.contains { $0.name == Array("dir".utf8) })
        let error = #expect(throws: FlistError.self) { try flist.resolve(Array("/dir/file-a".utf8)) }
        #expect(error?.code == .badEntry)
    }

    @Test func entriesWithoutAccessRightsAreKept() throws {
        let flist = try openFlist(Fixtures.path("malformed-legacy/acl-missing.flist"))
        let page = try flist.children(of: 1)
        #expect(page.problems.count == 1 && page.problems[0].isKept, "\(page.problems)")
        let entry = try flist.resolve(page.problems[0].path)
        #expect(entry.permissions == 0o400 && entry.uid == 1000 && entry.gid == 1000)
    }

    /// The same bytes give the same chunks in the same order, whatever the index is made in.
    @Test func chunkOrderComesFromTheArchiveAlone() throws {
        let path = try Fixtures.path("legacy/rich.flist")
        let scratch = try Scratch()
        let kept = try FlistFormat.open(path: path, index: scratch.sub("i"), scratch: scratch.path)
        let chunks = try kept.uniqueChunks()
        #expect(scratch.names == ["i"] && chunks.allSatisfy { $0.length == .legacy })
        #expect(try openFlist(path).uniqueChunks() == chunks)
        // The index that is there is used; one that is none is made again.
        let made = try FileManager.default.attributesOfItem(atPath: scratch.sub("i"))[.systemFileNumber] as? Int
        #expect(try FlistFormat.open(path: path, index: scratch.sub("i"), scratch: scratch.path).uniqueChunks() == chunks)
        #expect(try FileManager.default.attributesOfItem(atPath: scratch.sub("i"))[.systemFileNumber] as? Int == made)
        _ = try scratch.write("i", Array("no index".utf8))
        #expect(try FlistFormat.open(path: path, index: scratch.sub("i"), scratch: scratch.path).uniqueChunks() == chunks)
    }

    @Test func interruptingTheIndexLeavesNothing() throws {
        struct Stop: Error {}
        let scratch = try Scratch()
        #expect(throws: FlistError.self) {
            try FlistFormat.open(path: Fixtures.path("legacy/rich.flist"), index: scratch.sub("i"), scratch: scratch.path) { throw Stop() }
        }
        #expect(scratch.names.isEmpty)
    }
}
