import Foundation
import Testing

/// Legacy flists through the programs themselves.
@Suite(.serialized) struct LegacyTests {
    struct Expectation: Decodable, Sendable {
        let file: String
        let blocks: String
        /// `accept`, `error` or `either`.
        let kind: String
    }

    private func expectations() throws -> [Expectation] {
        try Fixtures.lines("malformed-legacy/EXPECT.jsonl").map { try JSONDecoder().decode(Expectation.self, from: Data($0.utf8)) }
    }

    /// What is bad is named; the rest is unpacked; nothing lands outside.
    @Test func everyRowMeetsItsExpectation() async throws {
        try await withBench { bench in
            for (number, expectation) in try expectations().enumerated() {
                try FileManager.default.createDirectory(atPath: bench.sub("u\(number)"), withIntermediateDirectories: true)
                let out = bench.sub("u\(number)/out")
                let outcome = try await bench.alone(
                    "flist", "unpack", Fixtures.path("malformed-legacy/" + expectation.file), out, "--store",
                    "dir://" + Fixtures.path("malformed-legacy/" + expectation.blocks))
                let context = "\(expectation.file): \(outcome.status) \(outcome.errors)"
                let named = outcome.errorLines.filter { $0.hasPrefix("chunkmesh: ") }
                switch expectation.kind {
                case "accept": #expect(outcome.status == 0 && !named.contains { $0.contains("left out") }, "\(context)")
                case "error": #expect(outcome.status == 1 && !named.isEmpty, "\(context)")
                default: #expect([0, 1].contains(outcome.status), "\(context)")
                }
                #expect(!outcome.errors.contains("\u{1b}") && !outcome.errors.contains("Fatal"), "\(context)")
                let beside = try FileManager.default.contentsOfDirectory(atPath: bench.sub("u\(number)"))
                #expect(beside.isEmpty || beside == ["out"], "\(context)")
                if beside == ["out"], !expectation.blocks.hasPrefix("blocks-") {
                    // One thing is wrong with each; this file, or that one, is there in any case.
                    let whole = ["/small", "/victim"].count { FileManager.default.fileExists(atPath: out + $0) }
                    #expect(whole > 0, "\(context)")
                }
            }
            #expect(!FileManager.default.fileExists(atPath: "/tmp/flist-escaped"))
        }
    }

    @Test func aDaemonServesIt() async throws {
        try await withBench { bench in
            let daemon = try await bench.daemon(
                settings: ["upstream.urls": "[\"dir://\(try Fixtures.path("legacy/blocks"))\"]", "upstream.override": "true"])
            let flist = try Fixtures.path("legacy/rich.flist")
            #expect(try await daemon.json("prefetch", flist, "--scope", "node").text("state") == "done")
            #expect(try await daemon.chunkmesh("cat", flist + ":/bin/hello").status == 0)
            let alone = try await bench.alone(
                "flist", "unpack", flist, bench.sub("alone"), "--store", "dir://" + Fixtures.path("legacy/blocks"))
            let got = try await daemon.chunkmesh("get", flist + ":/", bench.sub("got"))
            #expect(alone.status == 0 && got.status == 0, "\(alone.errors) \(got.errors)")
            try await bench.expectSame(bench.sub("alone/dup"), bench.sub("got/dup"))
            // A bad one is refused in one line, and the daemon lives.
            for file in ["truncated-gzip.flist", "no-database.flist", "tar-symlink-db.flist"] {
                let refused = try await daemon.chunkmesh("prefetch", Fixtures.path("malformed-legacy/" + file), "--scope", "node")
                #expect(refused.status == 1 && refused.errorLines.count == 1 && refused.errors.contains(file), "\(refused.errors)")
            }
            #expect(daemon.program.isRunning)
        }
    }

    @Test func convertWithoutMovingChunks() async throws {
        try await withBench { bench in
            let old = try Fixtures.path("legacy/rich.flist")
            let store = "dir://" + (try Fixtures.path("legacy/blocks"))
            let made = try await bench.alone(
                "flist", "convert", old, "-o", bench.sub("new.fl"), "--route", "00-7f=" + store, "--route", store)
            #expect(made.status == 0 && made.errors.contains("rfs"), "\(made.errors)")
            let unpacked = try await bench.alone("flist", "unpack", bench.sub("new.fl"), bench.sub("new"))
            let reference = try await bench.alone("flist", "unpack", old, bench.sub("old"), "--store", store)
            #expect(unpacked.status == 0 && reference.status == 0, "\(unpacked.errors)")
            try await bench.expectSame(bench.sub("old/dup"), bench.sub("new/dup"))
            #expect(try await bench.alone("flist", "verify", bench.sub("new.fl")).status == 0)
            let refused = try await bench.alone("flist", "convert", Fixtures.path("malformed/mini.fl"), "-o", bench.sub("x.fl"))
            #expect(refused.status == 1 && !FileManager.default.fileExists(atPath: bench.sub("x.fl")), "\(refused.errors)")
        }
    }
}
