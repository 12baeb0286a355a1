import BlockCodec
import ChunkModel
import Flist
import FlistTools
import Foundation
import SQLiteFile
import Testing

/// Trees to be packed, as text: one entry a line.
struct SmallTree {
    enum Entry: Equatable {
        case directory(mode: mode_t)
        case file(mode: mode_t, content: String)
        case link(String)
    }
    /// Parents before what is in them.
    var entries: [(path: String, entry: Entry)] = []

    func make(at root: String) throws {
        try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
        for (path, entry) in entries {
            let place = root + "/" + path
            switch entry {
            case .directory: try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
            case .file(let mode, let content):
                try Data(content.utf8).write(to: URL(fileURLWithPath: place))
                chmod(place, mode)
            case .link(let target): try FileManager.default.createSymbolicLink(atPath: place, withDestinationPath: target)
            }
        }
        for (path, entry) in entries.reversed() {
            if case .directory(let mode) = entry { chmod(root + "/" + path, mode) }
            let times = [timeval(tv_sec: 1000, tv_usec: 0), timeval(tv_sec: 1000, tv_usec: 0)]
            lutimes(root + "/" + path, times)
        }
        utimes(root, [timeval(tv_sec: 1000, tv_usec: 0), timeval(tv_sec: 1000, tv_usec: 0)])
    }

    /// Packed to `NAME.fl`, its chunks to `store`.
    func pack(_ name: String, _ scratch: Scratch, tags: [FlistTag] = [], store: String = "store") throws -> FlistFile {
        try make(at: scratch.sub(name))
        var options = PackOptions(
            directory: scratch.sub(name), output: scratch.sub(name + ".fl"), stores: [try PackStore(argument: scratch.sub(store))])
        options.session.tags = tags
        #expect(try FlistPacker.pack(options).problems == [])
        return try FlistFile(path: scratch.sub(name + ".fl"))
    }

    /// A tree of a few names, so that trees have much in common, and what is a file here is a directory there.
    static func random(_ generator: inout some RandomNumberGenerator) -> SmallTree {
        var tree = SmallTree()
        func fill(_ directory: String, depth: Int) {
            for name in ["a", "b", "c", "d"] {
                let path = directory + name
                switch Int.random(in: 0..<8, using: &generator) {
                case 0, 1:
                    tree.entries.append(
                        (
                            path,
                            .file(
                                mode: [0o644, 0o755].randomElement(using: &generator)!,
                                content: "\(Int.random(in: 0..<6, using: &generator))")
                        ))
                case 2: tree.entries.append((path, .link(["a", "/etc", "../b"].randomElement(using: &generator)!)))
                case 3, 4, 5:
                    tree.entries.append((path, .directory(mode: [0o755, 0o711].randomElement(using: &generator)!)))
                    if depth < 3 { fill(path + "/", depth: depth + 1) }
                default: break
                }
            }
        }
        fill("", depth: 0)
        return tree
    }

    /// Puts `other` over this tree.
    mutating func apply(_ other: SmallTree) {
        for (path, entry) in other.entries {
            let old = entries.first { $0.path == path }?.entry
            let areDirectories = [old, entry].allSatisfy { if case .directory? = $0 { true } else { false } }
            if !areDirectories { entries.removeAll { $0.path == path || $0.path.hasPrefix(path + "/") } }
            entries.removeAll { $0.path == path }
            entries.append((path, entry))
        }
        entries.sort { Array($0.path.utf8).lexicographicallyPrecedes(Array($1.path.utf8)) }
    }
}

/// Lines of what an flist holds, contents by their first block's key; sorted.
func listing(_ flist: FlistFile) throws -> [String] {
    var lines: [String] = []
    var walker = FlistWalker(flist, below: flist.root())
    while let item = try walker.next() {
        switch item {
        case .problem(let problem): lines.append("problem \(problem.line)")
        case .entry(let visit):
            var line =
                "\(String(decoding: visit.path, as: UTF8.self)) \(visit.entry.typeName) \(visit.entry.permissions) \(visit.entry.size)"
            if case .symlink(let target) = visit.entry.kind { line += " " + String(decoding: target, as: UTF8.self) }
            if visit.entry.isFile { line += try flist.blocks(of: visit.entry).map { " " + $0.id.hex }.joined() }
            lines.append(line)
        }
    }
    return lines.sorted()
}

@Suite struct EditingTests {
    @Test func tagsAndRoutesChangeAndAllElseStays() async throws {
        let scratch = try Scratch()
        var tree = SmallTree()
        tree.entries = [("a", .directory(mode: 0o711)), ("a/f", .file(mode: 0o600, content: "one")), ("l", .link("a"))]
        let flist = try tree.pack("t", scratch, tags: [FlistTag(key: "k", value: "v"), FlistTag(key: "gone", value: "")])
        chmod(scratch.sub("t.fl"), 0o640)
        let tags = try TagChanges(set: [FlistTag(key: "k", value: "w\n"), FlistTag(key: "new", value: "=")], remove: ["gone"])
            .applied(to: flist.tags)
        let routes = try RouteChanges(add: [Route(range: ChunkRange(firstBytes: 1...2), url: "https://hub/x")]).applied(to: flist.routes)
        // In place of the original, which is open meanwhile.
        try FlistEditor.rewrite(flist, to: scratch.sub("t.fl"), tags: tags, routes: routes)
        let changed = try FlistFile(path: scratch.sub("t.fl"))
        #expect(changed.tags == [FlistTag(key: "k", value: "w\n"), FlistTag(key: "new", value: "=")])
        #expect(changed.routes == flist.routes + [Route(range: ChunkRange(firstBytes: 1...2), url: "https://hub/x")])
        #expect(try listing(changed) == listing(flist))
        #expect(try changed.uniqueChunks() == flist.uniqueChunks())
        var status = stat()
        #expect(stat(scratch.sub("t.fl"), &status) == 0 && status.st_mode & 0o777 == 0o640)
        #expect(throws: ToolError.self) { try TagChanges(remove: ["k2"]).applied(to: changed.tags) }
        #expect(throws: ToolError.self) { try RouteChanges(remove: [(nil, "https://other")]).applied(to: changed.routes) }
        #expect(try RouteChanges(remove: [(1...2, "https://hub/x")]).applied(to: changed.routes) == flist.routes)
        let secret = Route(url: "zdb://:pw@h:1/n")
        #expect(try RouteChanges(remove: [(nil, "zdb://h:1/n")]).applied(to: [secret]) == [])
        #expect(throws: ToolError.self) {
            try FlistEditor.rewrite(changed, to: scratch.sub("x.fl"), tags: [], routes: [Route(url: "no-scheme")])
        }
        #expect(throws: CancellationError.self) {
            _ = try FlistMerger.merge([changed, changed], to: scratch.sub("x.fl")) { throw CancellationError() }
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.hasPrefix("x.fl") } == [])
    }

    /// What readers refuse in a hostile flist they refuse in its copy, in the same words; and nothing of its schema is copied.
    @Test(arguments: Fixtures.expectations)
    func aCopyOfAMalformedFlistReadsAsTheOriginal(_ expectation: Fixtures.Expectation) throws {
        guard let flist = try? FlistFile(path: Fixtures.path("malformed/" + expectation.file)) else { return }
        let scratch = try Scratch()
        do {
            try FlistEditor.rewrite(flist, to: scratch.sub("copy.fl"), tags: [FlistTag(key: "copied", value: "1")], routes: [])
        } catch is FlistError {
            // Damaged: no part of it is taken for the whole.
            #expect(!FileManager.default.fileExists(atPath: scratch.sub("copy.fl")))
            return
        }
        let copy = try FlistFile(path: scratch.sub("copy.fl"))
        #expect(try Self.sorted(FlistSummary(copy).problems) == Self.sorted(FlistSummary(flist).problems))
        #expect(try copy.uniqueChunks() == flist.uniqueChunks())
        #expect(copy.notes == [])
        let schema = try SQLiteDatabase(path: scratch.sub("copy.fl"), mode: .foreign).prepare(
            "select name from sqlite_master order by name")
        var names: [String] = []
        while try schema.step() { names.append(schema.text(0) ?? "") }
        #expect(
            names == [
                "block", "block_ino", "extra", "inode", "names", "parents", "route", "sqlite_autoindex_tag_1", "sqlite_sequence", "tag",
            ])
    }

    private static func sorted(_ lines: [String]) -> [String] { lines.sorted() }

    @Test func ofMergedFlistsTheLaterOneCounts() async throws {
        for seed in 0..<12 as Range<UInt64> {
            let scratch = try Scratch()
            var generator = SeededGenerator(seed: seed)
            let trees = (0..<3).map { _ in SmallTree.random(&generator) }
            var united = SmallTree()
            for tree in trees { united.apply(tree) }
            let flists = try trees.enumerated().map { try $1.pack("t\($0)", scratch, store: "s\($0)") }
            let report = try FlistMerger.merge(flists, to: scratch.sub("m.fl"))
            let merged = try FlistFile(path: scratch.sub("m.fl"))
            let expected = try united.pack("u", scratch)
            #expect(try listing(merged) == listing(expected), "seed \(seed)")
            #expect(report.entries == (try listing(merged)).count + 1 && report.problemCount == 0)
            #expect(merged.routes == flists.flatMap(\.routes))
            #expect(try FlistDiffer.compare(expected, merged, change: { Issue.record("\($0.path), seed \(seed)") }).isEqual, "seed \(seed)")
            let source = DirStoreSource(routes: merged.routes)
            #expect(try await FlistVerifier.verify(merged, source: source).isComplete)
            // The same input gives the same bytes.
            _ = try FlistMerger.merge(flists, to: scratch.sub("again.fl"))
            #expect(
                FileManager.default.contents(atPath: scratch.sub("again.fl")) == FileManager.default.contents(atPath: scratch.sub("m.fl")))
        }
    }

    @Test func routesAndTagsOfMergedFlistsAreUnited() throws {
        let scratch = try Scratch()
        var tree = SmallTree()
        tree.entries = [("f", .file(mode: 0o600, content: "one"))]
        let a = try tree.pack("a", scratch, tags: [FlistTag(key: "k", value: "a"), FlistTag(key: "only", value: "a")])
        tree.entries = [("g", .file(mode: 0o600, content: "two"))]
        let b = try tree.pack("b", scratch, tags: [FlistTag(key: "k", value: "b")])
        _ = try FlistMerger.merge([a, b], to: scratch.sub("m.fl"))
        let merged = try FlistFile(path: scratch.sub("m.fl"))
        #expect(merged.routes == a.routes)
        #expect(merged.tags == [FlistTag(key: "k", value: "b"), FlistTag(key: "only", value: "a")])
        // Blocks of two codecs cannot stand in one flist, an empty flist goes with every codec.
        try FlistEditor.rewrite(b, to: scratch.sub("z.fl"), tags: [FlistTag(key: "codec", value: "zstd")], routes: [])
        let z = try FlistFile(path: scratch.sub("z.fl"))
        let refused = #expect(throws: ToolError.self) { try FlistMerger.merge([a, z], to: scratch.sub("n.fl")) }
        #expect(refused?.message.contains("codec rfs") == true && refused?.message.contains("in zstd") == true)
        #expect(!FileManager.default.fileExists(atPath: scratch.sub("n.fl")))
        tree.entries = []
        let empty = try tree.pack("e", scratch)
        _ = try FlistMerger.merge([empty, z], to: scratch.sub("n.fl"))
        #expect(try FlistFile(path: scratch.sub("n.fl")).tags == [FlistTag(key: "codec", value: "zstd")])
        try FlistEditor.rewrite(b, to: scratch.sub("o.fl"), tags: [FlistTag(key: "codec", value: "lzma\u{1b}")], routes: [])
        let unknown = try FlistFile(path: scratch.sub("o.fl"))
        #expect(throws: ToolError.self) { try FlistMerger.merge([a, unknown], to: scratch.sub("p.fl")) }
    }

    @Test func differencesAreToldByFieldAndChunksCounted() throws {
        let scratch = try Scratch()
        var tree = SmallTree()
        tree.entries = [
            ("d", .directory(mode: 0o755)), ("d/gone", .file(mode: 0o600, content: "x")), ("d/same", .file(mode: 0o600, content: "same")),
            ("content", .file(mode: 0o600, content: "aaaa")), ("mode", .file(mode: 0o600, content: "m")), ("link", .link("a")),
            ("becomes", .file(mode: 0o600, content: "file")),
        ]
        let a = try tree.pack("a", scratch)
        let big = String(repeating: "0123456789abcdef", count: 40_000)
        tree.entries = [
            ("d", .directory(mode: 0o755)), ("d/same", .file(mode: 0o600, content: "same")),
            ("content", .file(mode: 0o600, content: "bbbb")),
            ("mode", .file(mode: 0o755, content: "m")), ("link", .link("b")), ("becomes", .directory(mode: 0o700)),
            ("becomes/new", .file(mode: 0o600, content: "aaaa")), ("big", .file(mode: 0o600, content: big)),
        ]
        let b = try tree.pack("b", scratch)
        var changes: [String] = []
        let store = DirStore(path: scratch.sub("store"))
        let report = try FlistDiffer.compare(a, b, storedBytes: { store.storedBytes($0) }) {
            changes.append("\($0.kind) \(String(decoding: $0.path, as: UTF8.self)) \($0.fields.map(\.rawValue).joined(separator: ","))")
        }
        #expect(
            changes == [
                "changed /becomes type", "added /becomes/new ", "added /big ", "changed /content content", "removed /d/gone ",
                "changed /link target", "changed /mode mode",
            ])
        #expect((report.added, report.removed, report.changed) == (2, 1, 4))
        // "aaaa" is there already; "bbbb" and the two blocks of `big` are not.
        #expect(report.newChunks == 3 && report.newPlainBytes == 640_004 && report.newChunksOfUnknownSize == 0)
        #expect(report.newChunksStored == 3 && report.newStoredBytes > 0)
        var options = DiffOptions()
        options.ignoreTimes = true
        #expect(try FlistDiffer.compare(b, a, options) { _ in }.newChunks == 2)
        #expect(try FlistDiffer.compare(a, a) { _ in Issue.record("no difference") }.newChunks == 0)
    }
}

struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1 }
    mutating func next() -> UInt64 {
        state = state &+ 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
