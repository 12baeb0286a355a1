import ChunkModel
import ControlModel
import Foundation
import Testing

@testable import MeshNode

extension MeshTests {
    /// Two sites in one mesh: nodes of "a", then nodes of "b", whose first knows the first of "a".
    @Suite(.serialized) struct Sites {
        private func with(
            a: Int = 1, b: Int = 1, sites: [String], _ body: (TestMesh, _ a: [TestNode], _ b: [TestNode]) async throws -> Void
        ) async throws {
            let mesh = try TestMesh()
            do {
                for place in 0..<a + b {
                    try await mesh.addNode { configuration in
                        configuration.node.site = place < a ? "a" : "b"
                        configuration.mesh.sites = place < a ? [] : sites
                    }
                }
                let nodes = mesh.nodes
                for (place, node) in nodes.enumerated() {
                    let count = place < a ? a : b
                    try await eventually("\(place) meets its site") {
                        node.node.parts.gossip.liveCount == count && node.node.parts.fetchingNodes == count
                    }
                    try await eventually("\(place) knows the other site") {
                        node.node.parts.gossip.read { machine, _ in machine.otherSites.contains(where: \.isReachable) }
                    }
                }
                try await eventually("nodes are grown up") { nodes.allSatisfy { $0.node.parts.clock.now > SiteView.newcomerGrace } }
                try await body(mesh, Array(nodes[..<a]), Array(nodes[a...]))
            } catch {
                await mesh.stop()
                throw error
            }
            await mesh.stop()
        }

        @Test func aSiteTakesFromAnotherWhatItsHubCannotGive() async throws {
            try await with(a: 2, b: 2, sites: ["a"]) { mesh, a, b in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 20_000, count: 24))
                // One node of "a" holds it all; with luck not the gateway alone is asked.
                let first = try await a[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node))
                _ = try await a[0].finished(first)
                mesh.hub.setDown(true)
                let job = try await b[0].finished(try await b[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                #expect(job.fromUpstream == 0 && job.fromSites + job.fromPeers == packed.chunks.count, "\(job)")
                #expect(try await b[0].read("image.fl", "f3") == packed.files["f3"])
                // The other node of the site takes it from the first, or from whom it asked: nothing crosses twice.
                _ = try await b[1].finished(try await b[1].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                let stats = [await b[0].node.stats(), await b[1].node.stats()]
                #expect(stats.reduce(0) { $0 + $1.chunks.fromSites } == UInt64(packed.chunks.count), "\(stats.map(\.chunks))")
                #expect(stats[1].chunks.fromPeers == UInt64(packed.chunks.count) - stats[1].chunks.fromSites)
                var sent: UInt64 = 0
                for node in a { sent += await node.node.stats().chunks.toSites }
                #expect(sent == UInt64(packed.chunks.count))
                let shown = await b[0].node.peers()
                #expect(shown.peers.map(\.site) == ["b"])
                let other = try #require(shown.sites.first)
                #expect(shown.sites.count == 1 && other.name == "a" && other.nodes == 2 && other.reachable && other.allowed)
                #expect(other.gateways.count == 2 && other.chunks == packed.chunks.count && other.bytesFrom > 0, "\(other)")
                let metrics = await b[0].node.metrics()
                #expect(metrics.contains("chunkmesh_other_site_up{other=\"a\"} 1") && metrics.contains("origin=\"sites\""))
            }
        }

        @Test func withoutLeaveTheOtherSiteIsNotAsked() async throws {
            try await with(sites: []) { mesh, a, b in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 20_000, count: 6))
                _ = try await a[0].finished(try await a[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                let before = mesh.hub.chunkRequests
                let job = try await b[0].finished(try await b[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                #expect(job.fromSites == 0 && job.fromPeers == 0 && job.fromUpstream == packed.chunks.count, "\(job)")
                #expect(mesh.hub.chunkRequests == before + packed.chunks.count)
                mesh.hub.setDown(true)
                let other = try mesh.pack("other.fl", sizes: [1000], seed: 3)
                await #expect(throws: NodeError.self) { try await b[0].node.prefetch(PrefetchRequest(flist: other.url, scope: .node)) }
                // A reload gives leave.
                var configuration = b[0].configuration
                configuration.mesh.sites = ["*"]
                let (applied, rest) = try await b[0].node.reload(configuration)
                #expect(applied == ["mesh.sites"] && rest.isEmpty)
                #expect(await b[0].node.peers().sites.first?.allowed == true)
            }
        }

        @Test func withAHubTheOtherSiteComesFirst() async throws {
            try await with(sites: ["*"]) { mesh, a, b in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 20_000, count: 20))
                _ = try await a[0].finished(try await a[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                let before = mesh.hub.chunkRequests
                let job = try await b[0].finished(try await b[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                #expect(job.fromSites == packed.chunks.count, "\(job)")
                #expect(mesh.hub.chunkRequests == before)
            }
        }

        /// What the site was said to hold and does not, or what it cannot send any more, comes from upstream.
        @Test func whatTheOtherSiteLostComesFromUpstream() async throws {
            try await with(sites: ["a"]) { mesh, a, b in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 20_000, count: 12))
                _ = try await a[0].finished(try await a[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                let known = try await b[0].node.open(packed.url)
                #expect(known.chunks == packed.chunks.count)
                // One by way of the site makes known what it holds; then it is gone.
                #expect(try await b[0].read("image.fl", "f0") == packed.files["f0"])
                #expect(await b[0].node.stats().chunks.fromSites > 0)
                await a[0].stop()
                let job = try await b[0].finished(try await b[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                #expect(job.fromUpstream > 0 && b[0].holds(packed) == packed.chunks.count, "\(job)")
            }
        }
    }
}
