import ChunkModel
import ControlModel
import Foundation
import Gossip
import PeerExchange
import PeerProtocol
import Testing

@testable import MeshNode

extension MeshTests {
    /// Members of the mesh that hold the key and mean no good.
    @Suite(.serialized) struct Hostility {
        @Test func wrongBytesAreBlamedShunnedAndFetchedElsewhere() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 10_000, count: 20))
                let liar = try FakePeer(seed: node.port) { request, responder in
                    if case .chunk = request.kind { responder.sendBytes([UInt8](repeating: 9, count: 10_000)) } else { responder.missing() }
                }
                let digest = try liar.announce(packed.path)
                _ = try await node.node.open(packed.path)
                try await eventually("the claims are known") {
                    node.node.parts.gossip.read { machine, _ in machine.holders(of: digest, 0).contains(liar.identity.id) }
                }
                let job = try await node.node.prefetch(PrefetchRequest(flist: packed.name, scope: .node))
                _ = try await node.finished(job)
                for (name, bytes) in packed.files { #expect(try await node.read(packed.name, name) == bytes) }
                let peer = try #require(await node.node.peers().peers.first { $0.name == "fake" })
                #expect(peer.verifyFailed >= 3 && peer.shunned, "\(peer)")
                #expect(await node.node.stats().errors.verifyFailed >= 3)
                #expect(Set(liar.asked.withLock { $0 }).count < packed.chunks.count, "a shunned peer is not asked any more")
                #expect(try await node.node.verifyCache().removed.isEmpty)
                await liar.stop()
            }
        }

        @Test func routesThatOnlyAPeerNamedAreNotOpened() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("trap.fl", sizes: [10_000, 20_000])
                let peer = try FakePeer(seed: node.port, answer: sendPieces(of: packed.path))
                let digest = try peer.announce(packed.path, holds: false)
                peer.set(MeshFacts.jobKey(digest), JobFact(scope: .all, copies: 1, pin: false).encoded)
                try await eventually("the flist came from the peer") { node.node.parts.flists.entry(digest) != nil }
                #expect(node.node.parts.flists.entry(digest)?.record.isVouched == false)
                #expect(!node.node.parts.upstream.hasWay(for: digest))
                // A read finds nobody who could deliver, and says so; the hub that the flist names hears nothing.
                let read = Task { try await node.read(digest.hex, "f0") }
                try await eventually("the chunk is wanted") { node.node.fetcher.state.withLock { $0.planner.wantCount } > 0 }
                read.cancel()
                await #expect(throws: (any Error).self) { try await read.value }
                #expect(mesh.hub.chunkRequests == 0 && mesh.hub.requests("/trap.fl") == 0)
                // Once a user here names the same file, the way is open.
                _ = try await node.node.open(packed.path)
                #expect(try await node.read("trap.fl", "f0") == packed.files["f0"])
                await peer.stop()
            }
        }

        @Test func aPeersNameDoesNotShadowAUsersFlist() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let mine = try mesh.pack("image.fl", sizes: [1000])
                let other = try mesh.pack("other.fl", sizes: [1000], seed: 2)
                let known = try await node.node.open(mine.path)
                let peer = try FakePeer(seed: node.port, answer: sendPieces(of: other.path))
                for name in ["image.fl", known.digest, String(known.digest.prefix(12))] {
                    let digest = try peer.announce(other.path, name: name)
                    peer.set(MeshFacts.jobKey(digest), JobFact(scope: .all, copies: 1, pin: false).encoded)
                    try await eventually("the other flist is here") {
                        node.node.parts.flists.entry(digest) != nil
                            && node.node.parts.gossip.nodes(knowing: digest).first?.fact.name == name
                    }
                    #expect(node.node.parts.flists.find(name)?.record.digest.hex == known.digest)
                    await node.node.opener.close(digest)
                    peer.gossip.change { machine, _ in machine.removeFact(MeshFacts.jobKey(digest)) }
                    try await eventually("the job is over") { node.node.prefetcher.participationCount == 0 }
                }
                await peer.stop()
            }
        }

        @Test func anFlistThatIsNotWhatItsDigestSaysIsNotKept() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [1000])
                let peer = try FakePeer(seed: node.port) { request, responder in
                    if case .flistPiece(_, _, let length) = request.kind {
                        responder.sendBytes([UInt8](repeating: 0, count: length))
                    } else {
                        responder.missing()
                    }
                }
                let digest = try peer.announce(packed.path)
                try await eventually("the fact is known") { !node.node.parts.gossip.nodes(knowing: digest).isEmpty }
                await #expect(throws: (any Error).self) { try await node.node.open(digest.hex) }
                #expect(node.node.parts.counters.snapshot.blame[peer.identity.id] == 1)
                let shown = try #require(await node.node.peers().peers.first { $0.name == "fake" })
                #expect(shown.verifyFailed == 1 && shown.shunned, "all of a wrong flist came from one node")
                #expect(node.node.files.path(of: digest) == nil)
                await peer.stop()
            }
        }

        @Test func oddFactsDoNoHarm() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [1000])
                _ = try await node.node.open(packed.path)
                let peer = try FakePeer(seed: node.port)
                peer.set(MeshFacts.profileKey, NodeProfile(reachesUpstream: true, upstreamBytes: .max).encoded)
                for number in 0..<200 {
                    let digest = FlistDigest(Blake2b.hash256([UInt8(number)]))
                    peer.set(
                        MeshFacts.flistKey(digest), FlistFact(fetches: true, fileBytes: .max, chunkCount: .max, name: "x/\u{7}").encoded)
                    peer.set(MeshFacts.jobKey(digest), JobFact(scope: .all, copies: 255, pin: true).encoded)
                }
                peer.set(FactKey(kind: MeshFacts.job, id: [1, 2])!, [])
                try await eventually("the facts are known") {
                    node.node.parts.gossip.read { machine, _ in machine.facts(of: peer.identity.id).count } > 200
                }
                _ = await node.node.metrics()
                #expect(await node.node.stats().site.upstreamBytes == .max)
                #expect(node.node.prefetcher.participationCount <= Prefetcher.maxJobsOfNode)
                #expect(try await node.read("image.fl", "f0") == packed.files["f0"])
                await peer.stop()
            }
        }
    }
}
