import ChunkModel
import ControlModel
import Foundation
import Testing

@testable import MeshNode

extension MeshTests {
    /// The hub goes away, and comes back.
    @Suite(.serialized) struct Offline {
        @Test func statusSaysWhatIsMissingAndFetchesGoOnByThemselves() async throws {
            try await TestMesh.with(nodes: 2) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 20_000, count: 60))
                mesh.hub.setDelay(20)
                let begun = Int64(Date().timeIntervalSince1970)
                let job = try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .all))
                try await eventually("it has begun") { mesh.nodes.allSatisfy { $0.holds(packed) > 3 } }
                let before = try await mesh.nodes[0].node.status(of: "image.fl").flists[0]
                #expect(before.upstream == .init(reachable: true))
                mesh.hub.setDown(true)
                try await eventually("the hub is missed") {
                    guard let shown = try? await mesh.nodes[0].node.status(of: nil).flists[0] else { return false }
                    return !shown.upstream.reachable
                }
                for node in mesh.nodes {
                    let shown = try await node.node.status(of: nil).flists[0]
                    #expect(shown.node.missing == shown.chunks - shown.node.chunks && shown.node.missing > 0)
                    #expect(shown.site.missing == shown.chunks - shown.site.chunks && shown.site.missing > 0 && !shown.site.complete)
                }
                let upstream = try await mesh.nodes[0].node.status(of: nil).flists[0].upstream
                let (since, tried) = (try #require(upstream.since), try #require(upstream.lastTried))
                #expect(since >= begun && tried >= since && tried <= Int64(Date().timeIntervalSince1970) + 1)
                #expect(upstream.error?.contains("127.0.0.1") == true)
                // The job waits, and says for what.
                #expect(try await mesh.nodes[0].node.job(job.id, wait: .zero).state == .running)
                mesh.hub.setDelay(0)
                mesh.hub.setDown(false)
                _ = try await mesh.nodes[0].finished(job, within: 40)
                for node in mesh.nodes {
                    try await eventually("all is there") {
                        guard let shown = try? await node.node.status(of: nil).flists[0] else { return false }
                        return shown.node.complete && shown.site.complete && shown.node.missing == 0 && shown.site.missing == 0
                    }
                }
                let again = try await mesh.nodes[0].node.status(of: nil).flists[0].upstream
                #expect(again == .init(reachable: true))
            }
        }

        @Test func whatTheSiteHoldsCanBeOpenedOnEveryNode() async throws {
            try await TestMesh.with(nodes: 3) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [1000, 600_000])
                try FileManager.default.createDirectory(atPath: mesh.hub.directory + "/other", withIntermediateDirectories: true)
                let other = try mesh.pack("other/image.fl", sizes: [2000], seed: 2)
                for packed in [packed, other] {
                    let job = try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node))
                    _ = try await mesh.nodes[0].finished(job)
                }
                mesh.hub.setDown(true)
                let known = try #require(try await mesh.nodes[0].node.status(of: packed.url).flists.first)
                try await eventually("the flists are announced") {
                    guard let digest = FlistDigest(hex: known.digest) else { return false }
                    return mesh.nodes.dropFirst().allSatisfy { !$0.node.parts.gossip.nodes(knowing: digest).isEmpty }
                }
                // By URL: the right one of two with the same name; by digest.
                #expect(try await mesh.nodes[1].node.open(packed.url).digest == known.digest)
                #expect(try await mesh.nodes[1].node.open(other.url).digest != known.digest)
                #expect(try await mesh.nodes[2].node.open(known.digest).digest == known.digest)
                for node in mesh.nodes {
                    #expect(try await node.read(known.digest, "f1") == packed.files["f1"])
                    let shown = try await node.node.status(of: known.digest).flists[0]
                    #expect(shown.site.complete && shown.site.missing == 0)
                }
                let shown = try await mesh.nodes[1].node.status(of: known.digest).flists[0]
                #expect(!shown.node.complete && shown.node.missing == 1)
                // Whether this node has met the dead hub depends on who owns the URL.
                #expect(shown.upstream.reachable || shown.upstream.error != nil)
            }
        }
    }
}
