import ChunkModel
import Foundation
import SQLiteFile
import Testing

@testable import LegacyFlist

@Suite struct PureTests {
    // MARK: Cap'n Proto

    private func message(_ segments: [[UInt64]]) -> [UInt8] {
        var words = [UInt32(segments.count - 1)] + segments.map { UInt32($0.count) }
        if words.count % 2 == 1 { words.append(0) }
        return words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * UInt32($0))) } }
            + segments.joined().flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * UInt64($0))) } }
    }
    private func structPointer(_ offset: Int, data: Int, pointers: Int) -> UInt64 {
        UInt64(truncatingIfNeeded: offset) & 0x3fff_ffff << 2 | UInt64(data) << 32 | UInt64(pointers) << 48
    }
    private func listPointer(_ offset: Int, kind: Int, count: Int) -> UInt64 {
        1 | UInt64(truncatingIfNeeded: offset) & 0x3fff_ffff << 2 | UInt64(kind) << 32 | UInt64(count) << 35
    }
    private func far(_ segment: Int, _ word: Int, isDouble: Bool = false) -> UInt64 {
        2 | (isDouble ? 4 : 0) | UInt64(word) << 3 | UInt64(segment) << 32
    }
    private let hello = UInt64(0x00_6f_6c_6c_65_68)

    @Test func fieldsOfOneSegment() throws {
        var it = try CapnpMessage(
            message([[structPointer(0, data: 1, pointers: 2), 0x1234_5678_9abc_def0, listPointer(1, kind: 2, count: 6), 0, hello]]))
        let root = try it.root()
        #expect(it.integer(UInt64.self, of: root, at: 0) == 0x1234_5678_9abc_def0)
        #expect(it.integer(UInt16.self, of: root, at: 2) == 0x9abc)
        #expect(it.integer(Int64.self, of: root, at: 8) == 0, "an older writer's struct")
        #expect(try it.text(of: root, pointer: 0) == Array("hello".utf8))
        #expect(try it.text(of: root, pointer: 1) == [] && it.text(of: root, pointer: 2) == [])
        #expect(try it.structures(of: root, pointer: 9).count == 0)
    }

    @Test func farAndDoubleFarPointers() throws {
        // Root in segment 1 by a landing pad; its text in segment 2 by a double far pointer whose pad is in segment 3.
        var it = try CapnpMessage(
            message([
                [far(1, 0)], [structPointer(0, data: 0, pointers: 1), far(3, 1, isDouble: true)], [7, hello],
                [0, far(2, 1), listPointer(0, kind: 2, count: 6)],
            ]))
        let root = try it.root()
        #expect(try it.text(of: root, pointer: 0) == Array("hello".utf8))
    }

    @Test func wrongPointersAreErrors() throws {
        for segments: [[UInt64]] in [
            [[0]], [[far(0, 0)]], [[far(9, 0)]], [[far(0, 0, isDouble: true)]], [[structPointer(-2, data: 0, pointers: 1)]],
            [[structPointer(5, data: 0, pointers: 1)]], [[structPointer(0, data: 0xffff, pointers: 0xffff)]], [[3]], [[]],
        ] {
            #expect(throws: CapnpError.self, "\(segments)") {
                var it = try CapnpMessage(message(segments))
                _ = try it.root()
            }
        }
        for bytes in [[], [0, 0, 0, 0], [255, 255, 255, 255, 0, 0, 0, 0], [0, 0, 0, 0, 255, 255, 255, 255]] as [[UInt8]] {
            #expect(throws: CapnpError.self) { try CapnpMessage(bytes) }
        }
        // A thousand million elements without size.
        var bomb = try CapnpMessage(
            message([
                [
                    structPointer(0, data: 0, pointers: 1), listPointer(0, kind: 7, count: 0),
                    structPointer(0x1fff_ffff, data: 0, pointers: 0),
                ]
            ]))
        let root = try bomb.root()
        #expect { try bomb.structures(of: root, pointer: 0) } throws: { ($0 as? CapnpError)?.endsMessage == true }
    }

    @Test func theSameWordsCannotBeReadForEver() throws {
        var it = try CapnpMessage(
            message([
                [structPointer(0, data: 0, pointers: 1), listPointer(0, kind: 2, count: 800)] + [UInt64](repeating: 0x4141, count: 100)
            ]))
        let root = try it.root()
        #expect(throws: CapnpError.self) { for _ in 0..<10 { _ = try it.data(of: root, pointer: 0) } }
    }

    /// No bytes make the reader trap, and none keep it busy.
    @Test func damagedRecordsOnlyThrow() throws {
        let scratch = try Scratch()
        let path = try Fixtures.path("legacy/rich.flist")
        _ = try scratch.write("db", [])
        _ = try LegacyArchive.read(path, databaseTo: scratch.sub("db")) {}
        let database = try SQLiteDatabase(path: scratch.sub("db"), mode: .foreign)
        let statement = try database.prepare("select value from entries")
        var records: [[UInt8]] = []
        while try statement.step() { if let bytes = statement.bytes(0), bytes.count < 20_000 { records.append(bytes) } }
        try #require(records.count > 50)
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededRandom(state: seed)
        var read = 0
        for _ in 0..<4000 {
            var bytes = records.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                bytes[at] =
                    Bool.random(using: &random)
                    ? UInt8.random(in: 0...255, using: &random) : bytes[at] ^ 1 << UInt8.random(in: 0...7, using: &random)
            }
            if Int.random(in: 0..<8, using: &random) == 0 { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random)) }
            _ = try? LegacyACI(bytes)
            guard var directory = try? LegacyDirectory(bytes) else { continue }
            for index in 0..<directory.entries.count {
                var name: [UInt8] = []
                do throws(CapnpError) {
                    if case .file(_, let blocks) = try directory.entry(index, name: &name).kind {
                        for place in 0..<blocks.count { _ = try directory.block(blocks, place) }
                    }
                    read += 1
                } catch { if error.endsMessage { break } }
            }
        }
        #expect(read > 0, "seed \(seed)")
    }

    // MARK: Routing

    private func routes(_ yaml: String) throws -> [Route] { try RouterFile.routes(Array(yaml.utf8)) }

    @Test func poolsBecomeTiersInOrderOfLookup() throws {
        let made = try routes(
            """
            pools:
              near:
                00:7F: zdb://10.0.0.1:9900/ns
                80:ff: ardb://pw%40d@host:16379
              far: {"0123:01ff": "redis://user:p@[::1]:1", 12: REDIS://h:2, 012: redis://h:3}
            lookup: [near, far]
            cache:
              - near
            """)
        #expect(made.map(\.url).prefix(2) == ["redis://10.0.0.1:9900", "redis://:pw%40d@host:16379"])
        #expect(made.map(\.tier) == [0, 0, 1, 1, 1, 0, 0] && made.map(\.isCache) == [false, false, false, false, false, true, true])
        #expect(made.map(\.range.description) == ["00-7f", "80-ff", "0123-01ff", "12-12", "0120-0120", "00-7f", "80-ff"])
        #expect(made[2].url == "redis://:user%3Ap@[::1]:1")
    }

    @Test func whatIsWrongInARouterIsSaid() throws {
        for (yaml, words) in [
            ("", "no pools"), ("pools: {}", "no lookup"), ("pools: {a: {00:ff: zdb://h:1}}\nlookup: [b]", "does not exist"),
            ("pools: {a: {0:f0f: zdb://h:1}}\nlookup: [a]", "bad range"), ("pools: {a: {ff:00: zdb://h:1}}\nlookup: [a]", "bad range"),
            ("pools: {a: {00: http://h:1}}\nlookup: [a]", "none of ardb"), ("pools: {a: {00: zdb://h}}\nlookup: [a]", "host and a port"),
            ("pools: [1\n", "not valid YAML"), ("pools: &x {a: 1}\nlookup: [*x]", "anchors"),
            (String(repeating: "[", count: 60_000), "not valid YAML"), (String(repeating: "- ", count: 30_000), "not valid YAML"),
            ("pools: {a: {x: [1]}}\nlookup: [a]", "not RANGE: URL"),
        ] {
            let error = #expect(throws: RoutingError.self, "\(yaml.prefix(40))") { try routes(yaml) }
            #expect(error?.reason.contains(words) == true, "\(yaml.prefix(40)): \(error?.reason ?? "")")
        }
        #expect(throws: RoutingError.self) { try RouterFile.routes([0xff, 0xfe]) }
        #expect(throws: RoutingError.self) { try RouterFile.routes([UInt8](repeating: 35, count: 70_000)) }
    }

    @Test func backends() throws {
        func url(_ json: String) throws -> String { try Backend.route(Array(json.utf8), tier: 3).url }
        #expect(try url(#"{"host": "h", "port": 9900, "namespace": "default", "password": ""}"#) == "zdb://h:9900")
        #expect(try url(#"{"host": "h", "port": 1, "namespace": "n/s", "password": "a\"b"}"#) == "zdb://:a%22b@h:1/n%2Fs")
        #expect(try url(#"{"socket": "/run/z db.sock", "port": 0, "namespace": "x"}"#) == "zdb:///run/z%20db.sock?namespace=x")
        #expect(try Backend.route(Array(#"{"host": "h", "port": 1}"#.utf8), tier: 3).tier == 3)
        for json in ["", "[]", "{", #"{"port": 1}"#, #"{"host": "a b"}"#, #"{"host": "h", "port": 70000}"#, #"{"socket": "x"}"#] {
            #expect(throws: RoutingError.self, "\(json)") { try url(json) }
        }
    }

    @Test func theRootsKeyIsTheHashOfNothing() {
        #expect(DirectoryKey.root.text == Array("cae66941d9efbd404e4d88758ea67670".utf8))
        #expect(DirectoryKey(text: DirectoryKey.root.text) == .root && DirectoryKey(text: Array("xyz".utf8)) == nil)
    }
}

struct SeededRandom: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
