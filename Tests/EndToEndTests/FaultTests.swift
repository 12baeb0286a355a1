import Foundation
import Testing

/// Hubs that fail, and daemons that are killed.
@Suite(.serialized) struct FaultTests {
    @Test func aHubThatComesLate() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, _) = try await bench.pack(files: 4, bytes: 50_000, route: "http://127.0.0.1:\(port)")
            let daemon = try await bench.daemon()
            let job = try await daemon.json("prefetch", flist, "--scope", "node", "--no-wait").text("id")
            // It says what holds it up, and goes on trying.
            try await eventually("the job says why it waits") { try await daemon.api("/v1/jobs/" + job)["error"] != nil }
            let waiting = try await daemon.api("/v1/jobs/" + job)
            #expect(waiting.text("state") == "running" && !waiting.text("error").contains("\n"), "\(waiting)")
            #expect(try await daemon.json("status").text("jobs[0].error").contains("127.0.0.1:\(port)"))
            try await bench.hub(port: port)
            try await eventually("the job ends by itself") { try await daemon.api("/v1/jobs/" + job).text("state") == "done" }
            #expect(try await daemon.json("status").bool("flists[0].node.complete") == true)
            #expect(try await daemon.json("stats").int("errors.upstreamErrors") > 0)
        }
    }

    @Test func aHubThatAnswers500ForAWhile() async throws {
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 3, bytes: 50_000, route: "dir:///nowhere")
            let hub = try await bench.flakyHub()
            let daemon = try await bench.daemon(
                settings: ["upstream.urls": "[\"http://127.0.0.1:\(hub)/mended\"]", "upstream.override": "true"])
            let broken = bench.sub("hub/broken")
            try bench.write([], to: broken, mode: 0o600)
            let job = try await daemon.json("prefetch", flist, "--scope", "node", "--no-wait").text("id")
            try await eventually("the job says why it waits") { try await daemon.api("/v1/jobs/" + job)["error"] != nil }
            #expect(try await daemon.api("/v1/jobs/" + job).text("error").contains("500"))
            try FileManager.default.removeItem(atPath: broken)
            try await eventually("the job ends by itself") { try await daemon.api("/v1/jobs/" + job).text("state") == "done" }
            #expect(try await daemon.api("/v1/jobs/" + job).int("fromUpstream") == 3)
            #expect(try await daemon.json("stats").int("errors.upstreamErrors") > 0)
        }
    }

    /// A chunk of wrong bytes is never stored; the job names it and waits for the hub to mend, the rest is there.
    @Test(arguments: ["flipped", "longer"]) func aHubWithAWrongChunk(how: String) async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, tree) = try await bench.pack(files: 4, bytes: 50_000, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let victim = try #require(try bench.chunkFiles(in: bench.sub("hub")).first)
            let right = try Data(contentsOf: URL(fileURLWithPath: victim))
            if how == "flipped" {
                try CommandTests.flip(victim)
            } else {
                try (right + Data(count: 5 << 20)).write(to: URL(fileURLWithPath: victim))
            }
            let name = (victim as NSString).lastPathComponent
            let daemon = try await bench.daemon()
            let job = try await daemon.json("prefetch", flist, "--scope", "node", "--no-wait").text("id")
            try await eventually("three chunks are there, and the job says why it is not done") {
                let state = try await daemon.api("/v1/jobs/" + job)
                return state.int("doneChunks") == 3 && state["error"] != nil
            }
            let waiting = try await daemon.api("/v1/jobs/" + job)
            #expect(waiting.text("error").contains(name.prefix(12)) && !waiting.text("error").contains("\n"), "\(waiting)")
            #expect(try bench.chunkFiles(in: daemon.cache).count == 3)
            #expect(!(try bench.chunkFiles(in: daemon.cache)).contains { $0.hasSuffix(name) })
            #expect(try await daemon.json("stats").int("cache.chunks") == 3)
            #expect(daemon.memory < 200 << 20)
            // Who reads the file meanwhile gets one clear line.
            let number = try #require(try await broken(daemon, flist))
            #expect(number.errorLines.count == 1 && number.errors.contains("chunk"), "\(number.errors)")
            try right.write(to: URL(fileURLWithPath: victim))
            try await eventually(within: .seconds(40), "the job ends once the hub is mended") {
                try await daemon.api("/v1/jobs/" + job).text("state") == "done"
            }
            let got = try await daemon.chunkmesh("get", flist + ":/", bench.sub("out"))
            #expect(got.status == 0, "\(got.errors)")
            try await bench.expectSame(tree, bench.sub("out"))
        }
    }

    /// The reading that fails, of the four files.
    private func broken(_ daemon: Daemon, _ flist: String) async throws -> Outcome? {
        var failed: [Outcome] = []
        for path in ["/file-0", "/sub/file-1", "/file-2", "/sub/file-3"] {
            let outcome = try await daemon.chunkmesh("cat", flist + ":" + path)
            if outcome.status != 0 { failed.append(outcome) }
        }
        #expect(failed.count == 1)
        return failed.first
    }

    @Test(arguments: ["endless", "huge"]) func aHubThatSendsTooMuch(behaviour: String) async throws {
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 2, bytes: 200_000, route: "dir:///nowhere")
            let hub = try await bench.flakyHub()
            let daemon = try await bench.daemon(
                settings: ["upstream.urls": "[\"http://127.0.0.1:\(hub)/\(behaviour)\"]", "upstream.override": "true"])
            let job = try await daemon.json("prefetch", flist, "--scope", "node", "--no-wait").text("id")
            try await eventually("the job says why it waits") { try await daemon.api("/v1/jobs/" + job)["error"] != nil }
            #expect(try await daemon.json("stats").int("cache.chunks") == 0)
            #expect(try bench.chunkFiles(in: daemon.cache).isEmpty)
            #expect(daemon.memory < 200 << 20, "\(daemon.memory >> 20) MiB")
            // An flist from there is refused as well.
            let refused = try await daemon.chunkmesh("prefetch", "http://127.0.0.1:\(hub)/huge/image.fl")
            #expect(refused.status == 1 && refused.errorLines.count == 1, "\(refused.errors)")
        }
    }

    @Test func killedInTheMiddle() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, tree) = try await bench.pack(files: 24, bytes: 100_000, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let daemon = try await bench.daemon(settings: ["upstream.maxRate": "8mbit"])
            let job = try await daemon.json("prefetch", flist, "--scope", "node", "--no-wait").text("id")
            try await eventually("some chunks are there") { try await daemon.json("stats").int("cache.chunks") >= 6 }
            await daemon.killed()
            let held = try bench.chunkFiles(in: daemon.cache)
            #expect(held.count < 24, "killed too late to say anything")
            // A disk that lost what it was told, as after a power cut.
            try CommandTests.flip(held[0])
            try FileHandle(forWritingTo: URL(fileURLWithPath: held[1])).truncate(atOffset: 100)

            try await daemon.start(environment: ["CHUNKMESH_UPSTREAM_MAX_RATE": "800mbit"])
            try await eventually("the job goes on by itself and ends") {
                let jobs = try await daemon.json("status").list("jobs")
                return jobs.contains { $0.text("id") == job } ? jobs.contains { $0.text("state") == "done" } : false
            }
            let stats = try await daemon.json("stats")
            #expect(stats.int("cache.chunks") == 24)
            // The rest and the two that were damaged; nothing else is fetched again.
            #expect(stats.int("chunks.fromUpstream") <= 24 - held.count + 2, "\(stats), \(held.count) were held")
            #expect(stats.int("chunks.fromUpstream") >= 24 - held.count)
            let got = try await daemon.chunkmesh("get", flist + ":/", bench.sub("out"))
            #expect(got.status == 0, "\(got.errors)")
            try await bench.expectSame(tree, bench.sub("out"))
            #expect(try await daemon.json("flist", "verify", flist, "--on", "node").int("good") == 24)
        }
    }

    @Test func anOrderlyEnd() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, _) = try await bench.pack(files: 24, bytes: 100_000, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let key = try await bench.key()
            let first = try await bench.daemon("n1", key: key)
            let second = try await bench.daemon("n2", key: key, seeds: [first], settings: ["upstream.maxRate": "8mbit"])
            try await eventually("they meet") { try await first.json("peers").text("peers[0].state") == "alive" }
            _ = try await second.json("prefetch", flist, "--scope", "node", "--no-wait")
            try await eventually("some chunks are there") { try await second.json("stats").int("cache.chunks") >= 4 }
            let (status, time) = await second.terminated()
            #expect(status == 0 && time < .seconds(5), "status \(status) after \(time)")
            #expect(!FileManager.default.fileExists(atPath: second.socket))
            try await eventually(within: .seconds(5), "the other is told") {
                try await first.json("peers").text("peers[0].state") == "left"
            }
            let held = try bench.chunkFiles(in: second.cache).count
            try await second.start(environment: ["CHUNKMESH_UPSTREAM_MAX_RATE": "800mbit"])
            #expect(try await second.json("stats").int("cache.chunks") >= held)
            try await eventually("it is back and finishes its job") {
                let state = try await first.json("peers").text("peers[0].state")
                return try await second.json("status").bool("flists[0].node.complete") == true && state == "alive"
            }
            #expect(try await second.json("stats").int("chunks.fromUpstream") <= 24 - held)
        }
    }
}
