import ChunkModel
import ControlModel
import Testing

@Suite struct ReadProfileTests {
    private let ids = (0..<4).map { ChunkID(hex: String(repeating: "\($0)", count: 64))! }
    private let digest = String(repeating: "ab", count: 32)
    private let title = "# chunkmesh read profile 1\n"

    private func parse(_ text: String) throws(ReadProfileError) -> ReadProfile { try ReadProfile(Array(text.utf8)) }

    @Test func whatIsWrittenIsRead() throws {
        let trace = Trace(id: "1", flist: "x", digest: digest, chunks: 9, recorded: 2, seconds: 3, ended: nil, entries: [], next: 0)
        let text =
            ReadProfile.head(of: trace, shown: "x y") + ReadProfile.line(.init(index: 3, chunk: ids[3].hex, seconds: 0.0004))
            + ReadProfile.line(.init(index: 0, chunk: ids[0].hex, seconds: 12.3456))
        #expect(text.hasSuffix("0.000 3 \(ids[3].hex)\n12.346 0 \(ids[0].hex)\n"))
        let profile = try parse(text)
        #expect(profile.chunks == [ids[3], ids[0]] && profile.digest?.hex == digest)
    }

    @Test func eachChunkCountsOnceAndNewWordsArePassedOver() throws {
        let profile = try parse(
            title + "# a comment\nfuture words here\n\n0 1 \(ids[1].hex)\r\n0.5 1 \(ids[1].hex) more\n1. 2 \(ids[2].hex)")
        #expect(profile.chunks == [ids[1], ids[2]] && profile.digest == nil)
    }

    @Test(arguments: [
        ("", "is empty"), ("# something else\n", "does not begin"), ("# chunkmesh read profile 1\n0 1 zz\n", "line 2 of the profile"),
        ("# chunkmesh read profile 1\n1e5 1 \(String(repeating: "0", count: 64))", "line 2"),
        ("# chunkmesh read profile 1\n0 1\n", "line 2"),
        ("# chunkmesh read profile 1\ndigest 12\n", "line 2"),
        ("# chunkmesh read profile 1\n" + String(repeating: "x", count: 600), "too long"),
    ]) func refused(text: String, reason: String) {
        do {
            _ = try parse(text)
            Issue.record("taken: \(text)")
        } catch {
            #expect(error.description.contains(reason) || (reason == "is empty" && error.description.contains("begin")), "\(error)")
        }
    }

    @Test func chunksAreBounded() {
        var text = title
        for number in 0...ReadProfile.maxEntries {
            let hex = String(number, radix: 16)
            text += "0 0 \(String(repeating: "0", count: 64 - hex.count))\(hex)\n"
        }
        #expect(throws: ReadProfileError.self) { try parse(text) }
    }
}
