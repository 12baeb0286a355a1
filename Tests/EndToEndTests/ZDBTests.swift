import Foundation
import Testing

/// Chunks in a zdb, through the programs.
@Suite(.serialized) struct ZDBTests {
    /// The stand-in for zdb with the chunks of the fixtures in the namespace `blobs`, and its port.
    private func zdb(_ bench: Bench, password: String) async throws -> Int {
        let script = try Fixtures.path("tools/mini_zdb.py")
        let store = try Fixtures.path("fl/store")
        let server = try bench.start("/usr/bin/env", ["python3", "-u", script, "0", "blobs:\(password)=\(store)"])
        func port() -> Int? {
            (try? String(contentsOfFile: server.outputFile, encoding: .utf8)).flatMap {
                Int($0.trimmingCharacters(in: .whitespacesAndNewlines))
            }
        }
        try await eventually("the zdb listens: \(server.errors)") { port() != nil }
        return try #require(port())
    }

    @Test func aTreeComesOutOfANamespaceWithAPassword() async throws {
        try await withBench { bench in
            let port = try await zdb(bench, password: "s3cret")
            let url = "zdb://:s3cret@127.0.0.1:\(port)/blobs"
            let flist = try Fixtures.path("fl/small.fl")
            let daemon = try await bench.daemon(settings: ["upstream.urls": "[\"\(url)\"]", "upstream.override": "true"])
            let got = try await daemon.chunkmesh("get", flist + ":/", bench.sub("out"))
            let manifest = try Fixtures.path("fl/small.expected.jsonl")
            let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Support/compare_tree.py")
                .path
            let compared = try await bench.run("/usr/bin/env", ["python3", script, bench.sub("out"), manifest])
            #expect(compared.status == 0 && compared.text == "", "\(compared.text.prefix(1500)) \(compared.errors.suffix(500))")
            #expect(got.status == 0, "\(got.errors)")
            let stats = try await daemon.json("stats")
            #expect(stats.int("chunks.fromUpstream") > 0 && stats.int("chunks.fromUpstream") == stats.int("cache.chunks"))
            #expect(!daemon.log.contains("s3cret"))
        }
    }

    @Test func aWrongPasswordIsToldAndNotRepeated() async throws {
        try await withBench { bench in
            let port = try await zdb(bench, password: "right")
            let daemon = try await bench.daemon(
                settings: ["upstream.urls": "[\"zdb://:wr0ng@127.0.0.1:\(port)/blobs\"]", "upstream.override": "true"])
            let flist = try Fixtures.path("fl/small.fl")
            let job = try await daemon.json("prefetch", flist, "--scope", "node", "--no-wait").text("id")
            try await eventually("the job says why it waits") { try await daemon.api("/v1/jobs/" + job)["error"] != nil }
            let reason = try await daemon.api("/v1/jobs/" + job).text("error")
            #expect(reason.contains("wrong password for namespace blobs"), "\(reason)")
            #expect(!reason.contains("wr0ng") && !daemon.log.contains("wr0ng"))
            #expect(try await !daemon.get("/metrics").text.contains("wr0ng"))
        }
    }
}
