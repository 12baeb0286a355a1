import CarryFile
import ChunkModel
import ChunkStore
import ControlModel
import Foundation
import Logging
import Testing

@testable import MeshNode
@testable import NodeConfiguration

extension MeshTests {
    /// Caches carried on a disk.
    @Suite(.serialized) struct Carry {
        private func exported(_ export: any CacheExport) async throws -> [UInt8] {
            var out: [UInt8] = []
            while let piece = try await export.next() { piece.withBytes { out += $0 } }
            return out
        }

        /// In pieces that fit nothing.
        private func imported(_ file: [UInt8], by taking: any CacheImport) async -> CacheImportReport {
            for start in stride(from: 0, to: file.count, by: 70_001) {
                guard await taking.take(ChunkBuffer(copying: file[start..<min(start + 70_001, file.count)])) else { break }
            }
            return await taking.finish()
        }

        private func offline(_ directory: String, trust: Configuration.Trust = .init(), maxBytes: Int64? = nil) throws -> OfflineCache {
            var logger = Logger(label: "carry")
            logger.logLevel = .critical
            return try OfflineCache(
                Configuration.Cache(dir: directory, minFree: .bytes(0)), maxBytes: maxBytes, trust: trust, logger: logger)
        }

        @Test func aSiteWithoutALineGetsEverythingFromTheFile() async throws {
            try await TestMesh.with(nodes: 2) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [0, 1, 600_000, 3000, 1_100_000])
                // Half here, half on the other node: what is missing here comes from there.
                let job = try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .site))
                _ = try await mesh.nodes[0].finished(job)
                try await eventually("the site is complete") {
                    (try? await mesh.nodes[0].node.status(of: "image.fl").flists[0].site.complete) == true
                }
                let requests = mesh.hub.chunkRequests
                let file = try await exported(try await mesh.nodes[0].node.exportCache([]))
                #expect(mesh.hub.chunkRequests == requests)

                try await TestMesh.with(nodes: 2) { far in
                    mesh.hub.setDown(true)
                    let report = await imported(file, by: try await far.nodes[0].node.importCache())
                    #expect(report.complete && report.problem == nil && report.stored == packed.chunks.count, "\(report)")
                    #expect(report.flists.map(\.name) == ["image.fl"] && report.flists[0].missing == 0)
                    for (name, content) in packed.files { #expect(try await far.nodes[0].read("image.fl", name) == content) }
                    // By its URL, without the hub.
                    #expect(try await far.nodes[0].node.open(packed.url).digest == report.flists[0].digest)
                    // The neighbour hears of it and reads.
                    try await eventually("the neighbour hears of it") {
                        (try? await far.nodes[1].node.open(report.flists[0].digest)) != nil
                    }
                    try await eventually("and sees the copies") {
                        (try? await far.nodes[1].node.status(of: report.flists[0].digest).flists[0].site.complete) == true
                    }
                    #expect(try await far.nodes[1].read(report.flists[0].digest, "f2") == packed.files["f2"])
                    let again = await imported(file, by: try await far.nodes[0].node.importCache())
                    #expect(again.complete && again.stored == 0 && again.held == packed.chunks.count)
                }
            }
        }

        @Test func aTornFileGivesWhatIsWholeAndSaysWhatIsMissing() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 60_000, count: 20))
                _ = try await mesh.nodes[0].finished(
                    try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                let file = try await exported(try await mesh.nodes[0].node.exportCache(["image.fl"]))
                let cache = try offline(mesh.directory + "/torn")
                let torn = await imported(Array(file.dropLast(300_000)), by: cache.beginImport())
                #expect(!torn.complete && torn.problem?.contains("cut off at byte") == true)
                #expect(torn.flists[0].missing > 0 && torn.flists[0].missing < 10 && torn.stored == 20 - torn.flists[0].missing, "\(torn)")

                // A byte of a chunk is wrong: that one is left out.
                var wrong = file
                wrong[file.count - 2 * 44 - 32 - 30_000] ^= 1
                let cache2 = try offline(mesh.directory + "/wrong")
                let report = await imported(wrong, by: cache2.beginImport())
                #expect(!report.complete && report.wrong == 1 && report.flists[0].missing == 1 && report.stored == 19, "\(report)")

                // A head that makes no sense: what came before is there.
                var broken = file
                broken[file.count - 30] = 77
                let cache3 = try offline(mesh.directory + "/broken")
                let third = await imported(broken, by: cache3.beginImport())
                #expect(!third.complete && third.problem != nil && third.stored == 20)
                for cache in [cache, cache2, cache3] { cache.close() }
            }
        }

        @Test func chunksBeforeTheirFlistAreKeptAndStraysAreNot() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [5000])
                let flist = [UInt8](try Data(contentsOf: URL(fileURLWithPath: packed.path)))
                let digest = FlistDigest(Blake2b.hash256(flist))
                let node = mesh.nodes[0].node
                _ = try await mesh.nodes[0].finished(try await node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                let chunk = try #require(try node.parts.store.copy(of: packed.chunks[0], into: node.parts.pool))
                let body = chunk.buffer.withBytes { Array($0) }
                let stray = Array("nobody's".utf8)
                let strayID = stray.withUnsafeBytes { ChunkID(ofStored: $0) }
                var file = CarryWriter.head(CarryHead(flists: 1, chunks: 2, bytes: 0))
                file += CarryWriter.chunkHead(chunk.id, length: body.count) + body
                file += CarryWriter.chunkHead(strayID, length: stray.count) + stray
                file += CarryWriter.flistHead(digest, length: UInt64(flist.count)) + flist
                file += CarryWriter.end(CarryCounts(flists: 1, chunks: 2, chunkBytes: UInt64(body.count + stray.count)))
                let cache = try offline(mesh.directory + "/order")
                let report = await imported(file, by: cache.beginImport())
                #expect(report.complete && report.stored == 1 && report.unclaimed == 1, "\(report)")
                #expect(cache.store.contains(chunk.id) && !cache.store.contains(strayID))
                // Without a note it is called by its digest.
                #expect(report.flists[0].name == String(digest.hex.prefix(12)))
                cache.close()
            }
        }

        @Test func aDirectoryWithoutADaemonIsCarriedBothWays() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [70_000, 600_000])
                let directory = mesh.directory + "/n0"
                _ = try await mesh.nodes[0].finished(
                    try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                #expect(throws: ChunkStoreError.self) { _ = try offline(directory) }
                let online = try await exported(try await mesh.nodes[0].node.exportCache([]))
                await mesh.nodes[0].stop()
                let cache = try offline(directory)
                let file = try await exported(try cache.export([]))
                #expect(file == online, "the same, either way")
                #expect(throws: NodeError.self) { _ = try cache.export(["other"]) }
                cache.close()

                mesh.hub.setDown(true)
                let other = mesh.directory + "/n1"
                let target = try offline(other)
                #expect(await imported(file, by: target.beginImport()).complete)
                target.close()
                // The daemon that starts there has it all.
                let node = try await mesh.addNode()
                let shown = try await node.node.status(of: nil).flists
                #expect(shown.map(\.name) == ["image.fl"] && shown[0].node.complete)
                #expect(try await node.read("image.fl", "f1") == packed.files["f1"])
            }
        }

        @Test func trustAndRoomHold() async throws {
            try await TestMesh.with(nodes: 1) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 60_000, count: 10))
                _ = try await mesh.nodes[0].finished(
                    try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                let file = try await exported(try await mesh.nodes[0].node.exportCache([]))
                let strict = try offline(mesh.directory + "/strict", trust: .init(requireSigned: true))
                let refused = await imported(file, by: strict.beginImport())
                #expect(!refused.complete && refused.flists[0].error?.contains("signed") == true && refused.unclaimed == 10, "\(refused)")
                let listed = try strict.files.list()
                #expect(strict.store.statistics.chunks == 0 && listed.isEmpty)
                let node = try await mesh.addNode { $0.trust.requireSigned = true }
                let report = await imported(file, by: try await node.node.importCache())
                #expect(!report.complete && report.flists[0].error != nil && node.node.parts.store.statistics.chunks == 0)
                let small = try offline(mesh.directory + "/small", maxBytes: 300_000)
                let part = await imported(file, by: small.beginImport())
                #expect(!part.complete && part.problem?.contains("cache.maxSize") == true && part.flists[0].missing > 0, "\(part)")
                for cache in [strict, small] { cache.close() }
            }
        }
    }
}
