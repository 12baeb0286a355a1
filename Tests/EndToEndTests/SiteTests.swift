import Foundation
import Testing

/// Several nodes of a site.
@Suite(.serialized) struct SiteTests {
    private func meet(_ nodes: [Daemon]) async throws {
        try await eventually("all know all") {
            for node in nodes {
                let peers = try await node.json("peers").list("peers")
                if peers.filter({ $0.text("state") == "alive" }).count < nodes.count - 1 { return false }
            }
            return true
        }
    }

    @Test func oneCopyForEveryNode() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, tree) = try await bench.pack(files: 40, bytes: 150_000, route: "http://127.0.0.1:\(port)")
            let hub = try await bench.hub(port: port)
            let key = try await bench.key()
            let first = try await bench.daemon("n1", key: key)
            let second = try await bench.daemon("n2", key: key, seeds: [first])
            let third = try await bench.daemon("n3", key: key, seeds: [first])
            let nodes = [first, second, third]
            try await meet(nodes)

            let job = try await first.json("prefetch", flist, "--scope", "all")
            #expect(job.text("state") == "done" && job.int("doneChunks") == job.int("chunks"), "\(job)")
            var upstream = 0
            for node in nodes {
                try await eventually("\(node.name) sees that all hold all") {
                    let status = try await node.json("status")
                    return status.bool("flists[0].node.complete") == true && status.bool("flists[0].site.complete") == true
                        && status.int("flists[0].site.minCopies") == 3
                }
                #expect(try await node.json("flist", "verify", "image.fl", "--on", "node").int("good") == 40)
                upstream += try await node.json("stats").int("chunks.fromUpstream")
            }
            #expect(upstream == 40, "one copy crossed the line")
            for node in nodes {
                try await eventually("\(node.name) shows the egress ratio of one copy") {
                    abs(try await node.json("stats").number("site.egressRatio") - 1) <= 0.01
                }
            }

            // A late one gets everything from its neighbours, even when the hub is gone.
            hub.signal(SIGTERM)
            #expect(await hub.outcome(within: .seconds(10)).status == 0)
            let late = try await bench.daemon("n4", key: key, seeds: [first])
            try await meet(nodes + [late])
            let digest = job.text("digest")
            let got = try await late.json("prefetch", digest, "--scope", "node")
            #expect(got.int("fromPeers") == 40 && got.int("fromUpstream") == 0, "\(got)")
            #expect(try await late.json("stats").int("bytes.fromUpstream") == 0)
            let read = try await late.chunkmesh("get", "image.fl:/", bench.sub("out"))
            #expect(read.status == 0, "\(read.errors)")
            try await bench.expectSame(tree, bench.sub("out"))

            // One is killed: the others notice and go on.
            await second.killed()
            try await eventually("the dead one is known to be dead") {
                let peers = try await first.json("peers").list("peers")
                return peers.first { $0.text("name") == "n2" }?.text("state") == "dead"
            }
            #expect(try await first.json("flist", "verify", "image.fl", "--on", "site").int("good") == 40)
        }
    }

    /// Without the key there is no way in, and nothing to be learnt.
    @Test func anotherKey() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, _) = try await bench.pack(files: 3, bytes: 20_000, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let first = try await bench.daemon("n1", key: try await bench.key())
            let digest = try await first.json("prefetch", flist, "--scope", "node").text("digest")
            let stranger = try await bench.daemon("n2", key: try await bench.key(), seeds: [first])
            let keyless = try await bench.daemon("n3", seeds: [first])
            try await eventually("the strangers have knocked") {
                let text = try await first.get("/metrics").text
                let line = text.split(separator: "\n").first { $0.hasPrefix("chunkmesh_gossip_dropped_total{reason=\"foreign\"}") }
                return (line?.split(separator: " ").last.flatMap { Double($0) } ?? 0) >= 4
            }
            for node in [first, stranger, keyless] { #expect(try await node.json("peers").list("peers").isEmpty, "\(node.name)") }
            for node in [stranger, keyless] {
                let asked = try await node.chunkmesh("prefetch", digest, "--scope", "node")
                #expect(asked.status == 1 && asked.errorLines.count == 1, "\(asked.errors)")
                #expect(try await node.json("stats").int("cache.chunks") == 0)
                #expect(try await node.json("status").list("flists").isEmpty)
            }
            #expect(try await first.json("stats").int("bytes.toPeers") == 0)
        }
    }

    /// The copies that were asked for and no more, spread over the nodes, of one that crossed the line.
    @Test(arguments: [1, 2]) func copiesAtTheSite(copies: Int) async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, _) = try await bench.pack(files: 30, bytes: 20_000, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let key = try await bench.key()
            // All may fetch: the operator named the hub to each of them.
            let settings = ["upstream.urls": "[\"http://127.0.0.1:\(port)\"]"]
            let first = try await bench.daemon("n1", key: key, settings: settings)
            var nodes = [first]
            for name in ["n2", "n3"] { nodes.append(try await bench.daemon(name, key: key, seeds: [first], settings: settings)) }
            try await meet(nodes)
            // Each has told by then that it reaches upstream: until that is known, nodes do not count on each other.
            for node in nodes { try await eventually("it runs for a while") { try await node.json("stats").number("uptimeSeconds") > 4 } }
            let job = try await first.json("prefetch", flist, "--copies", "\(copies)")
            #expect(job.text("state") == "done", "\(job)")
            try await eventually("that many copies of each") { try await first.json("status").int("flists[0].site.minCopies") == copies }
            var held: [Int] = []
            var upstream = 0
            for node in nodes {
                let stats = try await node.json("stats")
                held.append(stats.int("cache.chunks"))
                upstream += stats.int("chunks.fromUpstream")
            }
            #expect(upstream == 30 && held.reduce(0, +) == copies * 30, "\(held), \(upstream) from upstream")
            #expect(held.allSatisfy { $0 > 0 && $0 < 30 }, "spread: \(held)")
        }
    }
}
