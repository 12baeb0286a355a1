import ChunkModel
import ControlModel
import Foundation
import Testing

@testable import MeshNode

/// All tests of whole nodes; in each suite one after the other.
@Suite struct MeshTests {}

extension MeshTests {
    @Suite(.serialized) struct Sharing {
        @Test func threeNodesPullEveryChunkOnce() async throws {
            try await TestMesh.with(nodes: 3) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [0, 1, 524_287, 524_288, 524_289, 1_600_000])
                let jobs = try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .all))
                _ = try await mesh.nodes[0].finished(jobs)
                for node in mesh.nodes {
                    #expect(node.holds(packed) == packed.chunks.count)
                    for (name, bytes) in packed.files { #expect(try await node.read(packed.name, name) == bytes) }
                }
                #expect(mesh.nodes.map(\.upstreamChunks).reduce(0, +) == packed.chunks.count)
                #expect(mesh.hub.chunkRequests == packed.chunks.count)
            }
        }

        /// Machines that are told of an image at the same moment: the flist and every chunk travel once.
        @Test func aHerdPullsOnce() async throws {
            try await TestMesh.with(nodes: 6) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 60_000, count: 128))
                mesh.hub.setDelay(20)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for (index, node) in mesh.nodes.enumerated() {
                        group.addTask {
                            try await Task.sleep(for: .milliseconds(index * 130))
                            let job = try await node.node.prefetch(PrefetchRequest(flist: packed.url, scope: .node))
                            _ = try await node.finished(job)
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(mesh.hub.requests("/image.fl") == 1)
                #expect(mesh.hub.chunks.filter { $0.value > 1 }.isEmpty)
            }
        }

        @Test func othersFinishWhenANodeStops() async throws {
            try await TestMesh.with(nodes: 3) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 60_000, count: 60))
                mesh.hub.setDelay(50)
                let job = try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: packed.url))
                try await eventually("the site is at work") { mesh.hub.chunkRequests >= 12 }
                await mesh.nodes[2].stop()
                _ = try await mesh.nodes[0].finished(job, within: 25)
                let held = Set(mesh.nodes[0...1].flatMap { node in packed.chunks.filter { node.node.parts.store.contains($0) } })
                #expect(held.count == packed.chunks.count)
            }
        }

        @Test func aReadGoesBeforeAPrefetch() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 60_000, count: 100))
                mesh.hub.setDelay(40)
                let node = mesh.nodes[0]
                let job = try await node.node.prefetch(PrefetchRequest(flist: packed.url, scope: .node))
                #expect(try await node.read(packed.name, "f99") == packed.files["f99"])
                #expect(node.holds(packed) < 60, "the read waited for the prefetch")
                _ = try await node.finished(job)
            }
        }

        @Test func aCancelledReadDoesNotCancelOthers() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [60_000])
                let node = mesh.nodes[0]
                _ = try await node.node.open(packed.url)
                mesh.hub.setDelay(200)
                let first = Task { try await node.read(packed.name, "f0") }
                let second = Task { try await node.read(packed.name, "f0") }
                try await eventually("the chunk is wanted") {
                    node.node.fetcher.state.withLock { $0.waiters.values.first?.count ?? 0 } == 2
                }
                first.cancel()
                #expect(try await second.value == packed.files["f0"])
                await #expect(throws: (any Error).self) { try await first.value }
                #expect(mesh.hub.chunkRequests == 1)
                #expect(node.node.fetcher.state.withLock { $0.waiters.isEmpty && $0.upstream.isEmpty && $0.sent.isEmpty })
            }
        }
    }
}
