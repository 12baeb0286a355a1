import ChunkModel
import ControlModel
import FetchPlanner
import Flist
import Foundation
import Synchronization
import Testing

@testable import MeshNode

/// What is read is recorded, and a recording leads a prefetch.
@Suite struct TraceTests {
    private static let block = ChunkLimits.blockBytes

    @Test func whatIsReadIsRecordedOnceInItsOrder() async throws {
        try await TestMesh.with(nodes: 1) { mesh in
            let packed = try mesh.pack("x.fl", sizes: [2 * Self.block, Self.block, 3 * Self.block])
            let node = mesh.nodes[0]
            _ = try await node.node.open(packed.url)
            let order = try await node.chunks(of: packed, file: "f2") + node.chunks(of: packed, file: "f0")
            // Read before: in the memory when the trace begins.
            _ = try await node.read(packed.url, "f2")
            let started = try await node.node.startTrace(TraceRequest(flist: packed.url))
            #expect(started.chunks == packed.chunks.count && started.recorded == 0 && started.ended == nil)
            for name in ["f2", "f0", "f2"] { _ = try await node.read(packed.url, name) }
            let trace = try await node.node.trace(started.id, after: 0, wait: .seconds(5))
            #expect(trace.entries.map(\.chunk) == order.map(\.hex))
            #expect(trace.entries.map(\.index) == order.map { packed.chunks.firstIndex(of: $0)! })
            #expect(zip(trace.entries, trace.entries.dropFirst()).allSatisfy { $0.seconds <= $1.seconds } && trace.next == 5)
            #expect(try await node.node.trace(started.id, after: 5, wait: .milliseconds(30)).entries.isEmpty)
            #expect(await node.node.traces().traces.map(\.recorded) == [5])
            let ended = try await node.node.endTrace(started.id, after: 3)
            #expect(ended.ended == "stopped" && ended.entries.map(\.chunk) == order[3...].map(\.hex))
            await #expect(throws: NodeError.self) { try await node.node.trace(started.id, after: 0, wait: .zero) }

            let other = try await node.node.startTrace(TraceRequest(flist: packed.url))
            _ = try await node.node.forget(packed.url)
            #expect(try await node.node.trace(other.id, after: 0, wait: .seconds(5)).ended == "the flist was forgotten")
        }
    }

    @Test func tracesAreBoundedAndAbandonedOnesEnd() async throws {
        try await TestMesh.with(nodes: 1) { mesh in
            let packed = try mesh.pack("x.fl", sizes: [Self.block])
            let node = mesh.nodes[0]
            _ = try await node.node.open(packed.url)
            let entry = try #require(node.node.parts.flists.find(packed.url) ?? node.node.parts.flists.all.first)
            let now = Mutex(Duration.zero)
            let traces = ReadTraces { now.withLock { $0 } }
            for number in 0..<ReadTraces.maxTraces { _ = try traces.start(entry, id: "\(number)") }
            #expect(throws: NodeError.self) { try traces.start(entry, id: "more") }
            now.withLock { $0 += ReadTraces.patience - .seconds(1) }
            #expect(traces.look("0", after: 0)?.ended == nil)
            now.withLock { $0 += .seconds(2) }
            traces.note(packed.chunks[0], of: entry.record.digest)
            #expect(traces.look("0", after: 0)?.recorded == 1)
            #expect(traces.look("1", after: 0).map { $0.ended != nil && $0.recorded == 0 } == true)
            // What nobody asked about has gone by the next look at all of them.
            #expect(Set(traces.all.map(\.id)) == ["0", "1"])
            _ = try traces.start(entry, id: "more")
        }
    }

    @Test func aPrefetchBeginsWithTheProfile() async throws {
        try await TestMesh.with(nodes: 0) { mesh in
            let node = try await mesh.addNode { $0.upstream.concurrency = 1 }
            let packed = try mesh.pack("x.fl", sizes: Array(repeating: Self.block, count: 24))
            let wanted = [23, 4, 17, 9].map { packed.chunks[$0] }
            let foreign = String(repeating: "5", count: 64)
            let job = try await node.finished(
                try await node.node.prefetch(
                    PrefetchRequest(flist: packed.url, scope: .node, profile: [foreign] + wanted.map(\.hex) + [wanted[0].hex])))
            #expect(job.chunks == 24 && job.doneChunks == 24)
            #expect(job.note == "1 of the 6 chunks of the profile are not of x.fl")
            let asked = mesh.hub.state.withLock { $0.log }.compactMap { ChunkID(hex: String($0.split(separator: "/").last ?? "")) }
            #expect(asked.count == 24 && Array(asked.prefix(4)) == wanted)
            #expect(Array(asked.dropFirst(4)) == packed.chunks.filter { !wanted.contains($0) })
        }
    }

    @Test func onlyTheProfileIsFetched() async throws {
        try await TestMesh.with(nodes: 1) { mesh in
            let packed = try mesh.pack("x.fl", sizes: Array(repeating: Self.block, count: 6))
            let node = mesh.nodes[0]
            let profile = [packed.chunks[5].hex, packed.chunks[2].hex]
            let job = try await node.finished(
                try await node.node.prefetch(PrefetchRequest(flist: packed.url, scope: .node, profile: profile, onlyProfile: true)))
            #expect(job.chunks == 2 && node.holds(packed) == 2 && mesh.hub.chunkRequests == 2)
            for (request, isMissing) in [
                (PrefetchRequest(flist: packed.url, scope: .site, profile: profile, onlyProfile: true), false),
                (PrefetchRequest(flist: packed.url, scope: .node, onlyProfile: true), false),
                (PrefetchRequest(flist: packed.url, profile: ["no id"]), false),
                (PrefetchRequest(flist: packed.url, profile: Array(repeating: profile[0], count: ReadProfile.maxEntries + 1)), false),
                (PrefetchRequest(flist: packed.url, scope: .node, profile: [String(repeating: "5", count: 64)], onlyProfile: true), true),
            ] {
                do throws(NodeError) {
                    _ = try await node.node.prefetch(request)
                    Issue.record("taken: \(request)")
                } catch {
                    if case .notFound = error { #expect(isMissing) } else { #expect(!isMissing, "\(error)") }
                }
            }
        }
    }

    @Test func theSiteHearsOfTheOrder() async throws {
        try await TestMesh.with(nodes: 2) { mesh in
            let packed = try mesh.pack("x.fl", sizes: Array(repeating: Self.block, count: 12))
            mesh.hub.setDelay(200)
            let profile = [11, 3, 7, 0].map { packed.chunks[$0].hex }
            let job = try await mesh.nodes[0].node.prefetch(PrefetchRequest(flist: packed.url, scope: .site, profile: profile))
            let other = mesh.nodes[1].node
            let known = try await other.opener.open(packed.url)
            let asker = try #require(other.parts.gossip.member(mesh.nodes[0].node.parts.identity.id))
            #expect(await other.prefetcher.order(of: known, from: asker)?.indices == [11, 3, 7, 0])
            #expect(await other.prefetcher.order(of: known, from: nil) == nil)
            mesh.hub.setDelay(0)
            _ = try await mesh.nodes[0].finished(job)
            #expect(await other.prefetcher.order(of: known, from: asker) == nil)
        }
    }

    @Test func whatAPeerSaysOfTheOrderIsChecked() {
        func order(_ indices: [UInt32], extra: [UInt8] = []) -> [Int]? {
            ProfileOrder(indices.flatMap(\.bytes) + extra, chunkCount: 4)?.indices
        }
        #expect(order([3, 1, 3, 0]) == [3, 1, 0])
        #expect(order([]) == nil && order([4]) == nil && order([.max]) == nil && order([1], extra: [0]) == nil)
        let many = Array(repeating: UInt32(0), count: ReadProfile.maxEntries + 1)
        #expect(order(many) == nil)
        let (first, rest) = ProfileOrder([2, 0].flatMap { UInt32($0).bytes }, chunkCount: 4)!.split([3, 0, 1])
        #expect(first == [0] && rest == [3, 1])
        for fact in [JobFact(scope: .all, copies: 2, pin: true, hasProfile: true), JobFact(scope: .site, copies: 1, pin: false)] {
            #expect(JobFact(fact.encoded) == fact)
        }
    }
}

extension TestNode {
    fileprivate func chunks(of packed: Packed, file: String) async throws -> [ChunkID] {
        let flist = try FlistFile(path: packed.path)
        return try flist.blocks(of: flist.resolve(Array(("/" + file).utf8))).map(\.id)
    }
}
