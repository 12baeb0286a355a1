import ControlModel
import Foundation
import Testing

@testable import MeshNode

extension MeshTests {
    @Suite(.serialized) struct Legacy {
        static let fixtures: String = {
            if let given = ProcessInfo.processInfo.environment["CHUNKMESH_FIXTURES"] { return given }
            let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
                .deletingLastPathComponent()
            let above = [package.deletingLastPathComponent(), package.deletingLastPathComponent().deletingLastPathComponent()]
            let places = above.map { $0.appendingPathComponent("shared/fixtures").path }
            return places.first { FileManager.default.fileExists(atPath: $0) } ?? places[0]
        }()

        /// Chunks with ids of 16 bytes travel like all others: once over the line, then from peer to peer.
        @Test func threeNodesShareALegacyFlist() async throws {
            let mesh = try TestMesh()
            let blocks = Self.fixtures + "/legacy/blocks"
            for name in try FileManager.default.contentsOfDirectory(atPath: blocks) {
                try FileManager.default.copyItem(atPath: blocks + "/" + name, toPath: mesh.hub.directory + "/" + name)
            }
            let path = Self.fixtures + "/legacy/rich.flist"
            for _ in 0..<3 {
                try await mesh.addNode { configuration in
                    configuration.upstream.urls = [mesh.hub.url]
                    configuration.upstream.override = true
                }
            }
            try await mesh.meet()
            let job = try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: path, scope: .all))
            _ = try await mesh.nodes[0].finished(job)
            let opened = try #require(mesh.nodes[0].node.parts.flists.find("rich.flist"))
            let chunks = opened.flist.chunks
            #expect(chunks.count > 100 && chunks.allSatisfy { $0.length == .legacy })
            for node in mesh.nodes {
                let entry = try #require(node.node.parts.flists.entry(opened.record.digest))
                #expect(entry.flist.chunks == chunks, "all nodes number the chunks alike")
                #expect(chunks.allSatisfy { node.node.parts.store.contains($0) })
                #expect(try await node.read("rich.flist", "bin/hello").count == 38)
                // What others get is the archive, not what was made of it.
                #expect(try await node.node.image("rich.flist").size == UInt64(FileManager.default.contents(atPath: path)!.count))
                #expect(try node.node.files.list().map(\.bytes) == [Int64(FileManager.default.contents(atPath: path)!.count)])
            }
            #expect(mesh.nodes.map(\.upstreamChunks).reduce(0, +) == chunks.count)
            #expect(mesh.nodes.dropFirst().allSatisfy { $0.node.parts.counters.snapshot.peers.chunks > 0 })
            for chunk in chunks.prefix(3) {
                let served = try await mesh.nodes[1].node.chunk("rich.flist", id: chunk)
                #expect(served.id == chunk)
            }

            // The index outlives a restart, is made again when it is lost, and goes with the flist.
            let node = mesh.nodes[2]
            let index = node.node.files.indexPath(of: opened.record.digest)
            #expect(FileManager.default.fileExists(atPath: index))
            await node.stop()
            try Data("torn".utf8).write(to: URL(fileURLWithPath: index))
            try await node.restart()
            #expect(node.node.parts.flists.entry(opened.record.digest)?.flist.chunks == chunks)
            _ = try await node.node.forget("rich.flist")
            #expect(!FileManager.default.fileExists(atPath: index))
            await mesh.stop()
        }
    }
}
