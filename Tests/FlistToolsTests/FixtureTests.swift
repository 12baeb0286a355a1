import ChunkModel
import Flist
import FlistTools
import Foundation
import Testing

@Suite struct FixtureTests {
    @Test func theFixturesAreThere() throws {
        _ = try Fixtures.path("malformed/EXPECT.jsonl")
        #expect(Fixtures.expectations.count > 50)
    }

    @Test func smallFlistYieldsItsManifest() async throws {
        let flist = try FlistFile(path: Fixtures.path("fl/small.fl"))
        let (lines, problems) = try await FlistManifest.lines(flist, blocks: reader(store: Fixtures.path("fl/store")))
        #expect(problems.isEmpty)
        #expect(lines == (try Fixtures.lines("fl/small.expected.jsonl")))
        #expect(flist.routes == [Route(url: "dir:///FIXTURE_STORE")])
    }

    @Test func smallFlistVerifies() async throws {
        let flist = try FlistFile(path: Fixtures.path("fl/small.fl"))
        let report = try await FlistVerifier.verify(flist, source: DirStoreSource([DirStore(path: Fixtures.path("fl/store"))]))
        #expect(report.isComplete)
        #expect(report.goodChunks == (try flist.uniqueChunks().count))
        #expect(try flist.totals().uniqueChunks == report.chunks)
    }

    /// Every malformed flist meets its expectation: refused, or all entries but the named ones read as in the manifest.
    @Test(arguments: Fixtures.expectations)
    func malformed(_ expectation: Fixtures.Expectation) async throws {
        let path = try Fixtures.path("malformed/" + expectation.file)
        let blocks = try reader(store: Fixtures.path("malformed/" + expectation.store))
        let flist: FlistFile
        do {
            flist = try FlistFile(path: path)
        } catch {
            #expect(["reject", "either"].contains(expectation.kind), "\(error)")
            #expect(!error.description.contains("\n"))
            return
        }
        // Some are refused when content is asked for: there is no (supported) route.
        if expectation.file.hasPrefix("route-") {
            try await checkRoutes(flist, expectation)
            if expectation.kind == "reject" { return }
        }
        let (lines, problems) = try await FlistManifest.lines(flist, blocks: blocks)
        #expect(expectation.kind != "reject" || !problems.isEmpty, "should be refused")
        for problem in problems { #expect(!problem.contains("\n") && !problem.contains("\u{1b}")) }

        var expected: [String: String] = [:]
        for line in try Fixtures.lines("malformed/mini.expected.jsonl") { expected[try Self.path(of: line)] = line }
        var read: [String: String] = [:]
        for line in lines { read[try Self.path(of: line)] = line }
        for (path, line) in expected where !Self.concerns(path, expectation) {
            #expect(read[path] == line, "\(path) must read as ever")
        }
        switch expectation.kind {
        case "accept": #expect(problems.isEmpty, "\(problems)")
        case "entry":
            #expect(!problems.isEmpty, "must be reported")
            for path in expectation.paths {
                #expect(read[path] == nil, "\(path) must be left out")
                #expect(
                    problems.contains { $0.contains(path.split(separator: "/").last?.prefix(3) ?? "?") },
                    "\(path) must be named in \(problems)")
            }
        default: break
        }
    }

    /// Entries that the expectation is about, and the ones that it adds below them.
    private static func concerns(_ path: String, _ expectation: Fixtures.Expectation) -> Bool {
        expectation.paths.contains { path == $0 } || (path == "/dir" && expectation.file == "dir-size-odd.fl")
    }

    private static func path(of line: String) throws -> String {
        struct Line: Codable { let path: String }
        // Lone surrogates stand for bytes, and JSON decoders refuse them.
        let clean = line.replacingOccurrences(of: "\\udc", with: "?")
        return try JSONDecoder().decode(Line.self, from: Data(clean.utf8)).path
    }

    private func checkRoutes(_ flist: FlistFile, _ expectation: Fixtures.Expectation) async throws {
        switch expectation.file {
        case "route-none.fl": #expect(flist.routes.isEmpty)
        case "route-unsupported.fl": #expect(flist.routes.map(\.url).allSatisfy { $0.hasPrefix("ftp:") })
        case "route-out-of-range.fl":
            #expect(flist.routes.count == 1)
            #expect(flist.notes.count >= 2)
        case "route-overlap-dead-dir.fl": #expect(flist.routes.count == 2)
        default: break
        }
        guard expectation.kind == "reject" else { return }
        let source = DirStoreSource(routes: flist.routes)
        let report = try await FlistVerifier.verify(flist, source: source)
        #expect(report.goodChunks == 0)
        #expect(report.bad.count == report.chunks)
        #expect(report.bad.allSatisfy { $0.reason.contains("no route") || $0.reason.contains("unsupported") })
    }

    /// What is said about the special ones.
    @Test(arguments: [
        ("not-sqlite.fl", "not an fl file"), ("legacy-gzip.fl", "legacy .flist"), ("truncated-header.fl", "damaged"),
        ("page-damaged.fl", "damaged"), ("missing-table-block.fl", "no table block"), ("missing-column.fl", "lacks column mode"),
        ("root-is-file.fl", "no directory"), ("root-in-own-subtree.fl", "parent"),
    ])
    func refusalsAreClear(file: String, words: String) throws {
        let path = try Fixtures.path("malformed/" + file)
        let error = #expect(throws: FlistError.self) { try FlistFile(path: path) }
        #expect(error?.message.contains(words) == true, "\(error?.message ?? "")")
    }

    @Test func unevenBlocksReadAtAnyOffset() async throws {
        for (file, store) in [("blocks-uneven.fl", "store-blocks-uneven"), ("block-2mib.fl", "store-block-2mib")] {
            let flist = try FlistFile(path: Fixtures.path("malformed/" + file))
            let source = try reader(store: Fixtures.path("malformed/" + store))
            let entry = try flist.resolve(Array("/victim".utf8))
            let refs = try flist.blocks(of: entry)
            var whole: [UInt8] = []
            for ref in refs { try await source(ref).withBytes { whole += $0 } }
            #expect(UInt64(whole.count) == entry.size)
            for offset in [0, 9, 10, 11, 524_287, 524_288, 524_297, 524_298, 524_304, 1_048_576] where offset < whole.count {
                let fresh = FileReader(size: entry.size, blockCount: refs.count) { try await source(refs[$0]) }
                let read = try await fresh.read(offset: UInt64(offset), length: 1000).flatMap { slice in slice.withBytes { Array($0) } }
                #expect(read == Array(whole[offset..<min(whole.count, offset + 1000)]), "\(file) at \(offset)")
            }
        }
    }

    /// Nothing of a hostile flist lands outside, and the rest is there.
    @Test(arguments: Fixtures.expectations)
    func extractionStaysInside(_ expectation: Fixtures.Expectation) async throws {
        // A gigabyte, of one block.
        if expectation.file == "block-count-2000.fl" { return }
        guard expectation.kind != "reject", let flist = try? FlistFile(path: Fixtures.path("malformed/" + expectation.file)) else { return }
        let scratch = try Scratch()
        let options = ExtractOptions(destination: scratch.sub("out"))
        let report = try await FlistExtractor.extract(
            flist, options, blocks: reader(store: Fixtures.path("malformed/" + expectation.store)))
        if expectation.kind == "accept" { #expect(report.problems == []) }
        if expectation.kind == "entry" { #expect(report.problemCount > 0) }
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path) == ["out"])
        for path in expectation.paths
        where expectation.kind == "entry" && path != "/a/b" && !path.contains("..") && path != "//etc" && !path.contains("\0") {
            #expect(!FileManager.default.fileExists(atPath: scratch.sub("out") + path), "\(path) must not be left behind")
        }
        if !expectation.paths.contains("/small") {
            #expect(FileManager.default.contents(atPath: scratch.sub("out/small"))?.count == 22)
        }
    }
}
