import ControlModel
import Foundation
import Testing

@testable import MeshNode

extension MeshTests {
    @Suite(.serialized) struct Flists {
        @Test func aDigestIsEnoughWhereAPeerHasTheFlist() async throws {
            try await TestMesh.with(nodes: 2) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 3000, count: 700))
                let known = try await mesh.nodes[0].node.open(packed.path)
                try await eventually("the flist is announced") {
                    !mesh.nodes[1].node.parts.gossip.nodes(knowing: mesh.nodes[0].node.parts.flists.all[0].record.digest).isEmpty
                }
                #expect(try await mesh.nodes[1].node.open(known.digest) == known)
                // The chunks come by way of the node that may fetch them.
                #expect(try await mesh.nodes[1].read(known.name, "f7") == packed.files["f7"])
                #expect(mesh.nodes[1].upstreamChunks == 0)
            }
        }

        @Test func aNewVersionIsSeenAndAnOldOneIsNotSentAgain() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [1000])
                let first = try await node.node.open(packed.url)
                _ = try await node.node.open(packed.url)
                #expect(mesh.hub.requests("/image.fl") == 1, "fresh: the hub is not asked")
                try await node.restart()
                #expect(try await node.node.open(packed.url) == first)
                #expect(mesh.hub.requests("/image.fl") == 2 && mesh.hub.revalidated == 1)
                try mesh.pack("image.fl", sizes: [1000, 2000], seed: 3)
                try await node.restart()
                #expect(try await node.node.open(packed.url).digest != first.digest)
            }
        }

        @Test func withoutTheHubWhatIsKnownGoesOn() async throws {
            try await TestMesh.with(nodes: 2) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [1000, 600_000])
                let job = try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .all))
                _ = try await mesh.nodes[0].finished(job)
                mesh.hub.setDown(true)
                for node in mesh.nodes {
                    try await node.restart()
                    #expect(try await node.read(packed.name, "f1") == packed.files["f1"])
                }
                #expect(try await mesh.nodes[0].node.open(packed.url).name == "image.fl")
                await #expect(throws: (any Error).self) { try await mesh.nodes[0].node.open(mesh.hub.url + "/never-seen.fl") }
            }
        }

        @Test func jobsOutliveARestart() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 5000, count: 40))
                mesh.hub.setDelay(50)
                let job = try await node.node.prefetch(PrefetchRequest(flist: packed.url, scope: .node, pin: true))
                try await eventually("it has begun") { node.holds(packed) > 0 }
                try await node.restart()
                #expect(node.holds(packed) < packed.chunks.count)
                mesh.hub.setDelay(0)
                try await eventually("the job is taken up") { (try? await node.node.job(job.id, wait: .zero)) != nil }
                _ = try await node.finished(job)
                #expect(node.holds(packed) == packed.chunks.count)
                try await node.restart()
                #expect(try await node.node.status(of: nil).jobs.isEmpty, "a job that was done is not begun again")
                #expect(try await node.node.status(of: "image.fl").flists[0].pinned)
            }
        }

        @Test func aFileThatIsNoFlistIsRefusedAndNotKept() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let path = mesh.directory + "/not.fl"
                try Data(random(5000, seed: 1)).write(to: URL(fileURLWithPath: path))
                await #expect(throws: (any Error).self) { try await mesh.nodes[0].node.open(path) }
                #expect(try mesh.nodes[0].node.files.list().isEmpty)
                await #expect(throws: (any Error).self) { try await mesh.nodes[0].node.open(mesh.directory + "/none.fl") }
                await #expect(throws: (any Error).self) { try await mesh.nodes[0].node.open("nothing") }
            }
        }

        @Test func forgetEndsItsJobs() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 5000, count: 40))
                mesh.hub.setDelay(50)
                let node = mesh.nodes[0]
                let job = try await node.node.prefetch(PrefetchRequest(flist: packed.url))
                _ = try await node.node.forget("image.fl")
                #expect(try await node.node.job(job.id, wait: .seconds(5)).state == .cancelled)
                #expect(node.node.parts.flists.all.isEmpty)
                // What it says of itself and of the line stays.
                let kinds = node.node.parts.gossip.read { machine, _ in Set(machine.facts(of: machine.me.id).keys.map(\.kind)) }
                #expect(kinds.isSubset(of: [MeshFacts.profile, MeshFacts.line]))
            }
        }
    }

    @Suite(.serialized) struct Cache {
        @Test func aFullCacheServesWithoutStoring() async throws {
            let mesh = try TestMesh()
            try await mesh.addNode { $0.cache.maxSize = 1 << 20 }
            let node = mesh.nodes[0]
            let pinned = try mesh.pack("pinned.fl", sizes: [900_000])
            let job = try await node.node.prefetch(PrefetchRequest(flist: pinned.url, scope: .node, pin: true))
            _ = try await node.finished(job)
            let other = try mesh.pack("other.fl", sizes: [500_000, 500_000], seed: 2)
            _ = try await node.node.open(other.url)
            for name in ["f0", "f1"] { #expect(try await node.read("other.fl", name) == other.files[name]) }
            #expect(node.holds(pinned) == pinned.chunks.count, "pinned chunks stay")
            #expect(await node.node.stats().cache.notStoredChunks >= 2)
            await mesh.stop()
        }

        @Test func eachUpstreamHasItsFigures() async throws {
            let mesh = try TestMesh()
            let credentials = mesh.directory + "/netrc"
            _ = FileManager.default.createFile(
                atPath: credentials, contents: Data("machine h login a password s3cret".utf8), attributes: [.posixPermissions: 0o600])
            try await mesh.addNode {
                $0.upstream.urls = ["dir://\(mesh.directory)/none", mesh.hub.url.replacingOccurrences(of: "//", with: "//me:s3cret@")]
                $0.upstream.credentialsFile = credentials
            }
            let node = mesh.nodes[0]
            let packed = try mesh.pack("image.fl", sizes: [100_000, 100_000])
            _ = try await node.node.open(packed.url)
            for name in ["f0", "f1"] { #expect(try await node.read("image.fl", name) == packed.files[name]) }
            let upstreams = await node.node.stats().upstreams
            let hub = try #require(upstreams.first { $0.url == mesh.hub.url })
            #expect(hub.state == "well" && hub.bytes >= 200_000 && hub.failures == 0 && hub.lastError == nil)
            let metrics = await node.node.metrics()
            #expect(metrics.contains("chunkmesh_store_bytes_total{upstream=\"\(mesh.hub.url)\"} \(hub.bytes)\n"))
            #expect(metrics.contains("chunkmesh_store_up{upstream=\"\(mesh.hub.url)\"} 1\n"))
            #expect(!metrics.contains("s3cret") && !upstreams.contains { $0.url.contains("s3cret") })
            // The file is read again; one that is wrong leaves everything as it was.
            #expect(try await node.node.reload(node.configuration).applied == ["upstream.credentialsFile"])
            try Data("default login a password s3cret".utf8).write(to: URL(fileURLWithPath: credentials))
            await #expect { try await node.node.reload(node.configuration) } throws: {
                "\($0)".contains("netrc:1") && !"\($0)".contains("s3cret")
            }
            await mesh.stop()
        }

        @Test func whatIsEvictedIsNotAnnounced() async throws {
            let mesh = try TestMesh()
            try await mesh.addNode { $0.cache.maxSize = 2 << 20 }
            try await mesh.addNode()
            try await mesh.meet()
            let (small, other) = (mesh.nodes[0], mesh.nodes[1])
            let first = try mesh.pack("first.fl", sizes: [500_000, 500_000, 500_000])
            let second = try mesh.pack("second.fl", sizes: [500_000, 500_000, 500_000], seed: 2)
            for packed in [first, second] {
                _ = try await small.node.open(packed.path)
                _ = try await other.node.open(packed.path)
                for name in packed.files.keys { #expect(try await small.read(packed.name, name) == packed.files[name]) }
            }
            #expect(small.holds(first) < 3)
            for packed in [first, second] {
                let digest = try #require(small.node.parts.flists.find(packed.name)).record.digest
                try await eventually("availability is right") {
                    let held = packed.chunks.map { small.node.parts.store.contains($0) }
                    let told = other.node.parts.gossip.read { machine, _ in
                        packed.chunks.indices.map { machine.holders(of: digest, $0).contains(small.node.parts.identity.id) }
                    }
                    return held == told
                }
            }
            await mesh.stop()
        }
    }
}
