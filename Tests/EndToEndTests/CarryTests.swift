import Foundation
import Testing

/// `cache export` and `cache import`, as a person at two sites uses them.
@Suite(.serialized) struct CarryTests {
    @Test func fromOneSiteToAnother() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, tree) = try await bench.pack(files: 12, bytes: 300_000, route: "http://127.0.0.1:\(port)")
            let hub = try await bench.hub(port: port)
            let near = try await bench.daemon("near")
            _ = try await near.json("prefetch", flist, "--scope", "node")
            let file = bench.sub("disk.cmc")
            let report = try await near.json("cache", "export", file)
            #expect(report.int("flists") == 1 && report.int("chunks") == 12 && report.int("absent") == 0, "\(report)")
            #expect(!FileManager.default.contentsOfDirectory(bench.path).contains { $0.contains(".new-") })
            hub.signal(SIGKILL)

            let far = try await bench.daemon("far")
            let imported = try await far.json("cache", "import", file)
            #expect(imported.bool("complete") == true && imported.int("stored") == 12, "\(imported)")
            let got = try await far.chunkmesh("get", "image.fl:/", bench.sub("out"))
            #expect(got.status == 0, "\(got.errors)")
            try await bench.expectSame(tree, bench.sub("out"))

            // Through a pipe, into a directory that no daemon holds; the daemon that starts on it has all.
            let shell = try await bench.run(
                "/bin/sh",
                [
                    "-c",
                    "\"$0\" cache export - image.fl --api unix:\"$1\" | \"$0\" cache import - --cache \"$2\"",
                    Program.folder + "/chunkmesh",
                    far.socket, bench.sub("third"),
                ])
            #expect(shell.status == 0 && shell.text.contains("complete, 12 chunks"), "\(shell.errors)")
            let third = try await bench.daemon("third")
            #expect(try await third.json("status").bool("flists[0].node.complete") == true)
            let busy = try await bench.alone("cache", "import", file, "--cache", third.cache)
            #expect(busy.status == 1 && busy.errorLines.count == 1 && busy.errors.contains("in use"), "\(busy.errors)")

            // Torn: what is whole is there, the rest is named.
            let torn = bench.sub("torn.cmc")
            try Data(contentsOf: URL(fileURLWithPath: file)).dropLast(1_000_000).write(to: URL(fileURLWithPath: torn))
            let fourth = try await bench.daemon("fourth")
            let part = try await fourth.chunkmesh("cache", "import", torn)
            #expect(
                part.status == 1 && part.errors.contains("of 12 chunks are missing") && part.errors.contains("cut off"), "\(part.errors)")
            #expect(try await fourth.json("status").int("flists[0].node.chunks") > 5)
            let none = try await fourth.chunkmesh("cache", "import", flist)
            #expect(none.status == 1 && none.errors.contains("no file of chunkmesh cache export"), "\(none.errors)")
            let unknown = try await fourth.chunkmesh("cache", "export", bench.sub("x.cmc"), "nothing")
            #expect(unknown.status == 1 && unknown.errorLines.count == 1, "\(unknown.errors)")
            #expect(!FileManager.default.fileExists(atPath: bench.sub("x.cmc")))
            #expect(try await bench.alone("cache", "export", "-", "--json").status == 2)
        }
    }

    /// Ctrl-C leaves no file behind, and the daemon as it was.
    @Test func anInterruptedExportLeavesNothing() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, _) = try await bench.pack(files: 40, bytes: 500_000, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let daemon = try await bench.daemon(settings: ["upstream.maxRate": "16mbit"])
            #expect(try await daemon.chunkmesh("prefetch", flist, "--scope", "node", "--no-wait").status == 0)
            // It waits for chunks that come slowly.
            let program = try bench.start(
                "chunkmesh", ["cache", "export", bench.sub("x.cmc"), "image.fl", "--api", "unix:" + daemon.socket])
            try await eventually("it has begun") {
                FileManager.default.contentsOfDirectory(bench.path).contains { $0.contains("x.cmc.new-") }
            }
            program.signal(SIGINT)
            let outcome = await program.outcome(within: .seconds(10))
            #expect(outcome.status == 130, "\(outcome.status) \(outcome.errors)")
            #expect(!FileManager.default.contentsOfDirectory(bench.path).contains { $0.contains("x.cmc") })
            #expect(try await daemon.get("/healthz").text == "ok\n")
        }
    }
}

extension FileManager {
    fileprivate func contentsOfDirectory(_ path: String) -> [String] { (try? contentsOfDirectory(atPath: path)) ?? [] }
}
