import ChunkModel
import ControlModel
import Foundation
import Gossip
import Testing

@testable import MeshNode
@testable import NodeConfiguration

extension MeshTests {
    /// Copies that the site keeps.
    @Suite(.serialized) struct Goals {
        /// Times that a test can wait for.
        private func hurry(_ nodes: [TestNode], grace: Duration = .milliseconds(800)) {
            for node in nodes {
                node.node.keeper.times.value = GoalKeeper.Times(grace: grace, look: .milliseconds(60), fullPause: .seconds(2))
            }
        }

        /// Copies of the rarest chunk, on those that run.
        private func fewest(_ packed: Packed, _ nodes: [TestNode]) -> Int {
            packed.chunks.map { chunk in nodes.count { $0.isRunning && $0.node.parts.store.contains(chunk) } }.min() ?? 0
        }

        private func keep(_ copies: Int, _ packed: Packed, on node: TestNode) async throws -> Job {
            let job = try await node.node.prefetch(PrefetchRequest(flist: packed.url, copies: copies))
            return try await node.finished(job)
        }

        private func total(_ packed: Packed, _ nodes: [TestNode]) -> Int {
            nodes.filter(\.isRunning).reduce(0) { sum, node in sum + packed.chunks.count { node.node.parts.store.contains($0) } }
        }

        @Test func copiesAreRestoredFromThePeersWhenANodeGoes() async throws {
            try await TestMesh.with(nodes: 4) { mesh in
                hurry(mesh.nodes)
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 3000, count: 60))
                let job = try await keep(2, packed, on: mesh.nodes[0])
                #expect(job.state == .done && job.note == nil)
                #expect(fewest(packed, mesh.nodes) >= 2)
                try await eventually("all take part") {
                    mesh.nodes.allSatisfy { $0.node.keeper.goals.count == 1 }
                }
                let requests = mesh.hub.chunkRequests
                // Also when it was the one who asked.
                await mesh.nodes[0].stop()
                let left = Array(mesh.nodes.dropFirst())
                try await eventually("two copies again") { fewest(packed, left) >= 2 }
                #expect(mesh.hub.chunkRequests == requests, "the line carried nothing")
                try await eventually("status says so") {
                    guard let shown = try? await left[0].node.status(of: "image.fl").flists[0] else { return false }
                    return shown.site.minCopies >= 2 && shown.goal?.copies == 2 && shown.goal?.state == .kept && shown.goal?.nodes == 3
                        && shown.goal?.keptChunks == packed.chunks.count
                }
                // As many as lacked, and no stampede.
                #expect(total(packed, left) <= 2 * packed.chunks.count + packed.chunks.count / 10)
                // The next one goes.
                await left[1].stop()
                try await eventually("two copies again") { fewest(packed, [left[0], left[2]]) >= 2 }
                #expect(mesh.hub.chunkRequests == requests)
            }
        }

        @Test func aRebootMovesNothingAndTheGoalIsRemembered() async throws {
            try await TestMesh.with(nodes: 3) { mesh in
                hurry(mesh.nodes, grace: .seconds(20))
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 3000, count: 40))
                _ = try await keep(2, packed, on: mesh.nodes[0])
                try await eventually("all take part") { mesh.nodes.allSatisfy { $0.node.keeper.goals.count == 1 } }
                let before = total(packed, mesh.nodes)
                for node in mesh.nodes {
                    // The first one has no seeds of its own.
                    try await node.restart { configuration in
                        configuration.mesh.seeds = mesh.nodes.map { HostPort(host: "127.0.0.1", port: $0.port) }
                    }
                    hurry([node], grace: .seconds(20))
                    try await mesh.meet()
                }
                try await eventually("the goal is known to all") {
                    mesh.nodes.allSatisfy { $0.node.keeper.goals.values.first?.copies == 2 }
                }
                try await eventually("and kept") {
                    (try? await mesh.nodes[0].node.status(of: "image.fl").flists[0].goal?.state) == .kept
                }
                #expect(total(packed, mesh.nodes) == before)
            }
        }

        @Test func moreCopiesThanNodesAreMadeWhenNodesCome() async throws {
            try await TestMesh.with(nodes: 2) { mesh in
                hurry(mesh.nodes)
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 3000, count: 30))
                let job = try await keep(3, packed, on: mesh.nodes[1])
                #expect(job.note?.contains("2 nodes") == true && job.doneChunks == packed.chunks.count)
                #expect(fewest(packed, mesh.nodes) == 2)
                try await eventually("it says so") {
                    let goal = try? await mesh.nodes[0].node.status(of: nil).flists.first?.goal
                    return goal?.state == .short && goal?.note?.contains("2 nodes") == true
                }
                let requests = mesh.hub.chunkRequests
                let late = try await mesh.addNode()
                hurry([late])
                try await eventually("the latecomer has its copy") { fewest(packed, mesh.nodes) == 3 }
                #expect(mesh.hub.chunkRequests == requests)
            }
        }

        @Test func theGoalEndsForThoseWhoWereAwayToo() async throws {
            try await TestMesh.with(nodes: 3) { mesh in
                hurry(mesh.nodes)
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 3000, count: 20))
                _ = try await keep(2, packed, on: mesh.nodes[0])
                try await eventually("all take part") { mesh.nodes.allSatisfy { $0.node.keeper.goals.count == 1 } }
                await mesh.nodes[2].stop()
                _ = try await mesh.nodes[1].node.unkeep("image.fl")
                try await eventually("it is over") { mesh.nodes.prefix(2).allSatisfy { $0.node.keeper.goals.isEmpty } }
                #expect(try await mesh.nodes[0].node.status(of: "image.fl").flists[0].goal == nil)
                await #expect(throws: NodeError.self) { _ = try await mesh.nodes[0].node.unkeep("image.fl") }
                try await mesh.nodes[2].restart()
                try await eventually("over for the third") { mesh.nodes.allSatisfy { $0.node.keeper.goals.isEmpty } }
                // A later word counts, and forget ends it as well.
                _ = try await keep(1, packed, on: mesh.nodes[2])
                try await eventually("all take part again") { mesh.nodes.allSatisfy { $0.node.keeper.goals.values.first?.copies == 1 } }
                _ = try await mesh.nodes[0].node.forget("image.fl")
                try await eventually("forgotten") { mesh.nodes.allSatisfy { $0.node.keeper.goals.isEmpty } }
            }
        }

        @Test func statusNamesTheRarestChunkAndWhoHoldsIt() async throws {
            try await TestMesh.with(nodes: 3) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 3000, count: 10))
                for node in mesh.nodes {
                    _ = try await node.finished(try await node.node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                }
                let rare = packed.chunks[4]
                for node in mesh.nodes.prefix(2) { node.node.parts.store.remove([rare, packed.chunks[7]]) }
                let id = mesh.nodes[2].node.parts.identity.id.hex
                let rarest = Status.Flist.Rarest(chunk: rare.hex, copies: 1, chunks: 2, nodes: [.init(name: "n2", id: id)])
                for node in mesh.nodes {
                    try await eventually("it is known") {
                        (try? await node.node.status(of: "image.fl").flists[0].site)?.rarest == rarest
                    }
                    let site = try await node.node.status(of: "image.fl").flists[0].site
                    #expect(site.minCopies == 1)
                    #expect(site.complete && site.missing == 0)
                }
                // Who is dead holds nothing.
                await mesh.nodes[2].stop()
                try await eventually("its copies are gone") {
                    let site = try? await mesh.nodes[0].node.status(of: "image.fl").flists[0].site
                    return site?.minCopies == 0 && site?.missing == 2 && site?.complete == false && site?.rarest?.nodes.isEmpty == true
                }
            }
        }
    }
}
