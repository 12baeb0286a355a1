import Foundation
import Testing

/// Every command: exit status, and the JSON fields that scripts rely on (INTERFACE.md).
@Suite(.serialized) struct CommandTests {
    @Test func prefetchAndWhatShowsIt() async throws {
        try await withBench { bench in
            let hub = Ports.free()
            let (flist, _) = try await bench.pack(files: 6, bytes: 200_000, route: "http://127.0.0.1:\(hub)")
            try await bench.hub(port: hub)
            let key = try await bench.key()
            let first = try await bench.daemon("n1", key: key)
            let second = try await bench.daemon("n2", key: key, seeds: [first])
            try await eventually("the nodes know each other") {
                let states = [try await first.json("peers").text("peers[0].state"), try await second.json("peers").text("peers[0].state")]
                return states == ["alive", "alive"]
            }

            let node = try await first.json("prefetch", flist, "--scope", "node")
            node.expect(
                "flist", "chunks", "bytes", "doneChunks", "doneBytes", "fromLocal", "fromPeers", "fromUpstream", "seconds")
            #expect(node.int("doneChunks") == 6 && node.int("fromUpstream") == 6)
            #expect(node.int("doneBytes") == node.int("bytes") && node.int("bytes") > 1_200_000)

            let status = try await first.json("status", flist)
            status.expect(
                "flists[0].name", "flists[0].digest", "flists[0].chunks", "flists[0].bytes", "flists[0].node.chunks",
                "flists[0].node.bytes", "flists[0].node.complete", "flists[0].site.chunks", "flists[0].site.complete",
                "flists[0].site.minCopies")
            #expect(status.bool("flists[0].node.complete") == true)
            #expect(try await first.json("status", "image.fl").list("flists").count == 1)
            #expect(try await first.json("status").list("flists").count == 1)

            let stats = try await first.json("stats")
            stats.expect(
                "name", "siteName", "cache.bytes", "cache.chunks", "cache.maxBytes", "chunks.fromLocal", "chunks.fromPeers",
                "chunks.fromUpstream", "bytes.fromLocal", "bytes.fromPeers", "bytes.fromUpstream", "bytes.toPeers",
                "site.egressRatio", "site.upstreamBytes", "site.uniqueBytes", "errors.verifyFailed", "errors.peerTimeouts",
                "errors.upstreamErrors")
            #expect(stats.text("name") == "n1" && stats.text("siteName") == "lab" && stats.int("cache.chunks") == 6)

            // The other node has it by its digest, from its peer alone.
            let copies = try await second.json("prefetch", status.text("flists[0].digest"), "--scope", "site", "--copies", "2", "--pin")
            #expect(copies.text("state") == "done" && copies.int("fromUpstream") == 0 && copies.int("fromPeers") == 6)
            try await eventually("both nodes see two copies") {
                try await first.json("status").int("flists[0].site.minCopies") == 2
            }
            let peers = try await second.json("peers")
            peers.expect(
                "peers[0].name", "peers[0].site", "peers[0].address", "peers[0].state", "peers[0].chunks", "peers[0].bytesFrom",
                "peers[0].bytesTo", "peers[0].verifyFailed")
            #expect(peers.int("peers[0].bytesFrom") > 1_200_000)
            try await eventually("a round trip was measured") { try await second.json("peers")["peers[0].rttMs"] != nil }
            #expect(try await second.json("status").bool("flists[0].pinned") == true)

            // The same figures for people: something on stdout, nothing on stderr.
            for command in ["status", "stats", "peers"] {
                let shown = try await first.chunkmesh(command)
                #expect(shown.status == 0 && !shown.text.isEmpty && shown.errors.isEmpty, "\(command)")
            }
        }
    }

    @Test func prefetchWithoutWaitingAndOfSomePaths() async throws {
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 6, bytes: 100_000, route: "dir://" + bench.sub("hub"))
            let settings = ["upstream.urls": "[\"dir://\(bench.sub("hub"))\"]", "upstream.override": "true"]
            let daemon = try await bench.daemon(settings: settings)
            let some = try await daemon.json("prefetch", flist, "--scope", "node", "--path", "/sub/*")
            #expect(some.int("chunks") == 3 && some.int("doneChunks") == 3)
            #expect(try await daemon.json("stats").int("cache.chunks") == 3)
            let job = try await daemon.json("prefetch", flist, "--scope", "all", "--no-wait")
            job.expect("id", "state")
            try await eventually("the job ends") { try await daemon.api("/v1/jobs/" + job.text("id")).text("state") == "done" }
            #expect(try await daemon.json("status").bool("flists[0].node.complete") == true)
            // For people, a line that says what came of it.
            let shown = try await daemon.chunkmesh("prefetch", flist)
            #expect(shown.status == 0 && shown.lines.count == 1 && shown.text.contains("6 chunks"), "\(shown.text)")
        }
    }

    @Test func filesPinsAndTheCache() async throws {
        try await withBench { bench in
            let (flist, tree) = try await bench.pack(files: 3, bytes: 700_000, route: "dir://" + bench.sub("hub"))
            let daemon = try await bench.daemon(
                settings: ["upstream.urls": "[\"dir://\(bench.sub("hub"))\"]", "upstream.override": "true"])
            let list = try await daemon.json("ls", flist + ":/")
            list.expect("path", "entry.type", "entries[0].name", "entries[0].size", "entries[0].mode", "entries[0].mtime")
            #expect(list.list("entries").map { $0.text("name") } == ["file-0", "file-2", "sub"])
            #expect(try await daemon.chunkmesh("ls", flist + ":/sub").lines == ["file-1"])
            let stat = try await daemon.json("stat", flist + ":/file-0")
            stat.expect("name", "type", "size", "mode", "mtime", "uid", "gid")
            #expect(stat.int("size") == 700_000)

            let content = [UInt8](try Data(contentsOf: URL(fileURLWithPath: tree + "/file-0")))
            // Through the name by which the daemon knows it now.
            #expect(try await daemon.chunkmesh("cat", "image.fl:/file-0").bytes == content)
            for (offset, length) in [(0, 0), (0, 1), (524_287, 2), (524_288, 1), (699_999, 1), (699_999, 50), (700_000, 1), (900_000, 1)] {
                let part = try await daemon.chunkmesh("cat", flist + ":/file-0", "--offset", "\(offset)", "--length", "\(length)")
                #expect(part.status == 0 && part.bytes == Array(content.dropFirst(offset).prefix(length)), "\(offset) \(length)")
            }
            let file = try await daemon.chunkmesh("get", flist + ":/sub/file-1", bench.sub("one"))
            #expect(file.status == 0, "\(file.errors)")
            try await bench.expectSame(tree + "/sub/file-1", bench.sub("one"))
            let whole = try await daemon.chunkmesh("get", flist + ":/", bench.sub("all"))
            #expect(whole.status == 0, "\(whole.errors)")
            try await bench.expectSame(tree, bench.sub("all"))

            try await daemon.json("pin", flist).expect("name", "digest", "chunks")
            #expect(try await daemon.json("status").bool("flists[0].pinned") == true)
            #expect(try await daemon.json("stats").int("cache.pinnedBytes") > 2_000_000)
            try await daemon.json("unpin", "image.fl").expect("name")
            #expect(try await daemon.json("stats").int("cache.pinnedBytes") == 0)

            let verified = try await daemon.json("cache", "verify")
            verified.expect("chunks", "bytes", "removed")
            #expect(verified.int("chunks") == 6 && verified.list("removed").isEmpty)
            try await daemon.json("cache", "gc").expect("chunks", "bytes", "freedBytes")
            for place in ["node", "site", "hub"] {
                let report = try await daemon.json("flist", "verify", flist, "--on", place)
                #expect(report.int("chunks") == 6 && report.int("good") == 6, "\(place)")
            }

            // Bytes changed on the disk are found, removed, and named.
            let victim = try #require(try bench.chunkFiles(in: daemon.cache).first)
            try Self.flip(victim)
            let bad = try await daemon.chunkmesh("cache", "verify", "--json")
            #expect(bad.status == 1)
            #expect(try bad.json().list("removed") == [.text((victim as NSString).lastPathComponent)])
            #expect(!FileManager.default.fileExists(atPath: victim))
            #expect(try await daemon.chunkmesh("flist", "verify", flist, "--on", "node").status == 1)

            try await daemon.json("forget", "image.fl").expect("name", "digest")
            #expect(try await daemon.json("status").list("flists").isEmpty)
            #expect(try await daemon.json("stats").int("cache.chunks") == 5)
        }
    }

    static func flip(_ file: String) throws {
        let url = URL(fileURLWithPath: file)
        var data = try Data(contentsOf: url)
        data[data.count / 2] ^= 1
        chmod(file, 0o600)
        let handle = try FileHandle(forWritingTo: url)
        try handle.write(contentsOf: data)
        try handle.close()
    }

    @Test func commandsWithoutADaemon() async throws {
        try await withBench { bench in
            let (flist, tree) = try await bench.pack(files: 2, bytes: 30_000, route: "dir://" + bench.sub("hub"))
            let generate = ["key", "generate"]
            let keys = [try await bench.run("chunkmesh", generate).text, try await bench.run("chunkmesh", generate).text]
            #expect(keys.allSatisfy { Data(base64Encoded: $0.trimmingCharacters(in: .newlines))?.count == 32 } && keys[0] != keys[1])
            let shown = try await bench.alone("flist", "inspect", flist, "--json").json()
            shown.expect("path", "entries", "files", "directories", "symlinks", "bytes", "uniqueChunks", "routes[0].url", "tags")
            #expect(shown.int("files") == 2 && shown.int("bytes") == 60_000 && shown.int("uniqueChunks") == 2)
            let verified = try await bench.alone("flist", "verify", flist, "--json")
            #expect(verified.status == 0)
            #expect(try verified.json().int("good") == 2)
            let unpacked = try await bench.alone("flist", "unpack", flist, bench.sub("out"))
            #expect(unpacked.status == 0 && unpacked.bytes.isEmpty, "\(unpacked.errors)")
            try await bench.expectSame(tree, bench.sub("out"))
            try CommandTests.flip(try #require(try bench.chunkFiles(in: bench.sub("hub")).first))
            let damaged = try await bench.alone("flist", "verify", flist, "--json")
            #expect(damaged.status == 1)
            #expect(try damaged.json().list("problems").count == 1)
            // As help and version do, and only these, a bare program prints to stdout and is content.
            for arguments in [["--help"], ["--version"], ["prefetch", "--help"]] {
                let help = try await bench.run("chunkmesh", arguments)
                #expect(help.status == 0 && !help.text.isEmpty && help.errors.isEmpty, "\(arguments)")
            }
        }
    }
}
