import ChunkModel
import ControlModel
import FetchPlanner
import Foundation
import Gossip
import LineBudget
import NodeConfiguration
import Testing

@testable import MeshNode

extension MeshTests {
    @Suite(.serialized) struct LineOfASite {
        @Test func `a pause holds at all nodes, over a restart, and until it is taken back`() async throws {
            try await TestMesh.with(nodes: 2) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 60_000, count: 6))
                let (one, two) = (mesh.nodes[0], mesh.nodes[1])
                _ = try await one.node.setLine(LineRequest(action: .pause))
                try await eventually("the other node pauses") { await two.node.line().state == "paused" }
                let job = try await two.node.prefetch(PrefetchRequest(flist: packed.url, scope: .node))
                // Readers go on.
                #expect(try await two.read(packed.name, "f0") == packed.files["f0"])
                try await eventually("the job says why it waits") {
                    (try? await two.node.job(job.id, wait: .zero))?.error?.contains("chunkmesh line resume") == true
                }
                await one.stop()
                try await two.restart()
                #expect(await two.node.line().state == "paused")
                #expect(mesh.hub.chunkRequests < packed.chunks.count)
                _ = try await two.node.setLine(LineRequest(action: .resume))
                try await eventually("the job ends") { two.holds(packed) == packed.chunks.count }
            }
        }

        @Test func `a stopped line tells readers why at once, and gives what the site holds`() async throws {
            try await TestMesh.with(nodes: 2) { mesh in
                let packed = try mesh.pack("image.fl", sizes: [60_000, 60_000])
                for node in mesh.nodes { _ = try await node.node.open(packed.url) }
                #expect(try await mesh.nodes[1].read(packed.name, "f0") == packed.files["f0"])
                for node in mesh.nodes {
                    try await eventually("all know who holds it") { (try? await node.node.status(of: nil))?.flists.first?.site.chunks == 1 }
                }
                let line = try await mesh.nodes[0].node.setLine(LineRequest(action: .pause, all: true, seconds: 3600))
                #expect(line.state == "stopped" && line.until != nil)
                try await eventually("the other node stops") { await mesh.nodes[1].node.line().state == "stopped" }
                for node in mesh.nodes {
                    let start = ContinuousClock.now
                    await #expect {
                        try await node.read(packed.name, "f1")
                    } throws: {
                        "\($0)".contains("the line to upstream is stopped until")
                    }
                    #expect(ContinuousClock.now - start < .seconds(2))
                    #expect(try await node.read(packed.name, "f0") == packed.files["f0"])
                }
                let before = mesh.hub.chunkRequests
                await #expect(throws: (any Error).self) { try await mesh.nodes[0].node.open(mesh.hub.url + "/other.fl") }
                #expect(mesh.hub.chunkRequests == before && mesh.hub.requests("/other.fl") == 0)
                _ = try await mesh.nodes[1].node.setLine(LineRequest(action: .resume))
                for node in mesh.nodes {
                    try await eventually("the line is open") { node.node.fetcher.state.withLock { $0.planner.lineGate } == .open }
                }
                #expect(try await mesh.nodes[0].read(packed.name, "f1") == packed.files["f1"])
            }
        }

        @Test func `the cap counts what all nodes pulled, and is remembered`() async throws {
            try await TestMesh.with(nodes: 0) { mesh in
                // The second node has no cap of its own: it hears of it.
                try await mesh.addNode { $0.upstream.monthlyCap = LineCap(bytes: 1 << 20) }
                try await mesh.addNode()
                try await mesh.meet()
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 60_000, count: 60))
                let job = try await mesh.nodes[1].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node))
                try await eventually("the cap is used up") { await mesh.nodes[1].node.line().state == "capReached" }
                try await eventually("the job says so") {
                    (try? await mesh.nodes[1].node.job(job.id, wait: .zero))?.error?.contains("upstream.monthlyCap is used up") == true
                }
                let line = await mesh.nodes[1].node.line()
                #expect(
                    line.monthlyCap == 1 << 20 && line.monthBytes >= 1 << 20
                        && line.until.map { $0 > Int64(Date().timeIntervalSince1970) } == true)
                try await eventually("both know the same") {
                    let other = await mesh.nodes[0].node.line()
                    let mine = await mesh.nodes[1].node.line()
                    return other.monthBytes == mine.monthBytes && other.state == "capReached"
                }
                // What the one that goes has pulled is known to the one that stays, and to itself when it comes back.
                let spent = await mesh.nodes[1].node.line().monthBytes
                await mesh.nodes[1].stop()
                #expect(await mesh.nodes[0].node.line().monthBytes == spent)
                try await mesh.nodes[0].restart()
                let again = await mesh.nodes[0].node.line()
                #expect(again.monthBytes == spent && again.state == "capReached")
                // A higher cap lets it go on without a restart.
                var configuration = mesh.nodes[0].configuration
                configuration.upstream.monthlyCap = LineCap(bytes: 1 << 30)
                let changes = try await mesh.nodes[0].node.reload(configuration)
                #expect(changes.applied.contains("upstream.monthlyCap") && changes.needRestart.isEmpty)
                #expect(await mesh.nodes[0].node.line().state == "open")
            }
        }

        @Test func `hours without upstream close the line of the whole site`() async throws {
            try await TestMesh.with(nodes: 0) { mesh in
                try await mesh.addNode { $0.upstream.windows = try! LineWindows(["daily 00:00-24:00 off"]) }
                try await mesh.addNode()
                try await mesh.meet()
                #expect(await mesh.nodes[0].node.line().state == "off")
                try await eventually("the other hears of it") {
                    await mesh.nodes[1].node.line().reason?.contains("of another node") == true
                }
            }
        }

        @Test func `the lowest rate of the site holds and goes to those who want it`() async throws {
            try await TestMesh.with(nodes: 0) { mesh in
                for rate in [16_000_000, 8_000_000, nil] as [UInt64?] { try await mesh.addNode { $0.upstream.maxRate = rate } }
                try await mesh.meet()
                for node in mesh.nodes {
                    try await eventually("the rate is known") { await node.node.line().bitsPerSecond == 8_000_000 }
                }
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 500_000, count: 3))
                let start = ContinuousClock.now
                let job = try await mesh.nodes[2].node.prefetch(PrefetchRequest(flist: packed.url, scope: .node))
                _ = try await mesh.nodes[2].finished(job, within: 25)
                // 1.5 MB at 8 Mbit/s are 1.57 s with their headers.
                let seconds = (ContinuousClock.now - start).seconds
                #expect(seconds > 1.2, "\(seconds) s")
                try await eventually("who wants nothing has no share") {
                    await mesh.nodes.asyncAll { await $0.node.line().shareBitsPerSecond == 0 }
                }
            }
        }

        @Test func `prefetches of the others wait as long as a reader has the line, and hardly longer`() async throws {
            try await TestMesh.with(nodes: 2) { mesh in
                let (reader, other) = (mesh.nodes[0].node.parts.line, mesh.nodes[1].node.parts.line)
                var waits: [Double] = []
                for _ in 0..<5 {
                    let use = reader.began(.foreground)
                    try await eventually("the other holds back") { other.state.withLock { $0.isHolding } }
                    reader.ended(use)
                    let start = ContinuousClock.now
                    try await eventually("the other goes on") { other.state.withLock { !$0.isHolding } }
                    waits.append((ContinuousClock.now - start).seconds)
                    // Each time at another place between the looks that come every second.
                    try await Task.sleep(for: .milliseconds(170))
                }
                // It lingers for 30 ms, and would be seen within a second anyway.
                #expect(waits.sorted()[2] < 0.25, "\(waits)")
            }
        }

        @Test func `one that serves fetches for nobody, and one that fetches gives nothing`() async throws {
            try await TestMesh.with(nodes: 0) { mesh in
                try await mesh.addNode { $0.lan.mode = .serve }
                try await mesh.addNode { $0.lan.mode = .fetch }
                try await mesh.addNode()
                try await eventually("they meet") { mesh.nodes.allSatisfy { $0.node.parts.gossip.liveCount == 3 } }
                try await eventually("they are grown up") { mesh.nodes.allSatisfy { $0.node.parts.clock.now > .seconds(4) } }
                let (server, taker, other) = (mesh.nodes[0], mesh.nodes[1], mesh.nodes[2])
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 60_000, count: 20))
                _ = try await other.finished(try await other.node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                #expect(other.upstreamChunks == packed.chunks.count)
                #expect(server.holds(packed) == 0 && taker.holds(packed) == 0)
                _ = try await server.finished(try await server.node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                _ = try await taker.finished(try await taker.node.prefetch(PrefetchRequest(flist: packed.url, scope: .node)))
                #expect(mesh.hub.chunkRequests == packed.chunks.count)
                // Alone with the one that gives nothing, a node has to ask upstream; with the one that serves it has not.
                await other.stop()
                let digest = try #require(taker.node.parts.flists.all.first?.record.digest)
                #expect(
                    taker.node.parts.gossip.read { machine, _ in machine.bitmap(of: taker.node.parts.identity.id, digest)?.population ?? 0 }
                        == 0)
                #expect(
                    server.node.parts.gossip.read { machine, _ in machine.bitmap(of: server.node.parts.identity.id, digest)?.population }
                        == packed.chunks.count)
            }
        }
    }
}

extension Array {
    fileprivate func asyncAll(_ body: (Element) async -> Bool) async -> Bool {
        for element in self where !(await body(element)) { return false }
        return true
    }
}

@Suite struct LineNoteTests {
    private var note: LineNote {
        var note = LineNote()
        note.sequence = 7
        note.demand = LineDemand(.foreground, need: 5)
        note.share = 99
        note.isReading = true
        note.rate = LineRate(bitsPerSecond: 8_000_000)
        note.cap = 4
        note.pause = LinePause(version: 3, extent: .all, until: -1)
        note.days = [LineNote.Spent(day: 9, bytes: 8), LineNote.Spent(day: 6, bytes: 2)]
        return note
    }

    @Test func goesThereAndBack() {
        #expect(note.encoded.count == LineNote.byteCount && note.encoded.count <= GossipLimits.factValueBytes)
        #expect(LineNote(note.encoded) == note)
        #expect(LineNote(LineNote().encoded) == LineNote())
        var record = LineRecord()
        record.pause = note.pause
        record.book.add(5, by: [UInt8](repeating: 1, count: 32), day: 3)
        #expect(LineRecord(record.encoded) == record)
    }

    @Test func whatIsCutOrOfAnotherVersionIsNoNote() {
        for count in 0..<LineNote.byteCount { #expect(LineNote(Array(note.encoded[..<count])) == nil) }
        #expect(LineNote([2] + note.encoded.dropFirst()) == nil)
        for count in 0..<LineRecord().encoded.count { #expect(LineRecord(Array(LineRecord().encoded[..<count])) == nil) }
    }
}
