import ChunkModel
import MeshKeys
import Testing

@testable import FetchPlanner

/// Chunks that few hold and many are after are handed on from node to node.
@Suite struct RelayTests {
    private static let flist = someFlist(seed: 7)

    /// `others[0]` holds everything; all the rest, this node included, are after it.
    private func stage(others count: Int = 7, _ change: (inout FetchPlanner.Limits) -> Void = { _ in }) -> Stage {
        var stage = Stage(others: count, change)
        stage.flist = Self.flist
        stage.mesh.seekers = Array(stage.others.dropFirst())
        stage.mesh.isSeeking = true
        return stage
    }

    private func hold(_ id: ChunkID, _ stage: inout Stage) { stage.mesh.holders[id] = [stage.others[0]] }

    /// Chunks for which this node stands first among those that are after them, or does not.
    private func chunks(_ count: Int, first: Bool, _ stage: Stage) -> [ChunkID] {
        let seekers = stage.mesh.seekers + [stage.me]
        return Array(
            someChunks(count * 60 + 100).filter { (Rendezvous.ranking(of: $0, among: seekers)[0] == stage.me) == first }.prefix(count))
    }

    @Test(arguments: [3, 8, 40])
    func `one node goes to the only holder, and all others hang below it`(count: Int) throws {
        let nodes = someNodes(count, seed: 3)
        for id in someChunks(20, seed: 4) {
            var parent: [NodeID: NodeID] = [:]
            for me in nodes.dropFirst() {
                var planner = FetchPlanner(me: me)
                var mesh = ScriptedMesh(owners: nodes)
                mesh.holders[id] = [nodes[0]]
                mesh.seekers = nodes.dropFirst().filter { $0 != me }
                let actions = planner.want(id, flist: Self.flist, priority: .prefetch, now: .zero, view: mesh) ?? []
                let asked = try #require(actions.first?.asked)
                #expect(asked.mode == (asked.node == nodes[0] ? .ifHeld : .relay))
                parent[me] = asked.node
            }
            #expect(parent.values.count { $0 == nodes[0] } == 1)
            for node in nodes.dropFirst() { #expect(parent.values.count { $0 == node } <= FetchPlanner.Limits().relayFanOut) }
            for start in nodes.dropFirst() {
                var (at, steps) = (start, 0)
                while let next = parent[at], steps <= count { (at, steps) = (next, steps + 1) }
                #expect(at == nodes[0])
                #expect(steps <= 2 + Int.bitWidth - count.leadingZeroBitCount)
            }
        }
    }

    @Test func `who is after a chunk alone goes straight to the holder, and so does a reader`() {
        var alone = stage()
        alone.mesh.seekers = []
        for id in someChunks(4) {
            hold(id, &alone)
            #expect(alone.want(id).first?.asked?.mode == .ifHeld)
        }
        var reading = stage()
        for id in chunks(3, first: false, reading) {
            hold(id, &reading)
            let asked = reading.want(id, .foreground).first?.asked
            #expect(asked?.mode == .ifHeld)
            #expect(asked?.node == reading.others[0])
        }
    }

    @Test func `a reader takes a chunk out of the chain`() throws {
        var stage = stage()
        let id = chunks(1, first: false, stage)[0]
        hold(id, &stage)
        let asked = stage.want(id).first?.asked
        let relay = try #require(asked)
        #expect(relay.mode == .relay)
        let actions = stage.want(id, .foreground)
        #expect(actions.first == .cancel(relay.tag))
        #expect(actions.last?.asked?.node == stage.others[0])
        #expect(actions.last?.asked?.mode == .ifHeld)
    }

    @Test func `who will not hand a chunk on is passed over until the holder is left`() throws {
        for refusal in [PeerAnswer.declined, .notOwner, .missing, .busy(retryAfter: .seconds(1)), .failed] {
            var stage = stage()
            let id = chunks(1, first: false, stage)[0]
            hold(id, &stage)
            let first = stage.want(id).first?.asked
            var asked = try #require(first)
            var refused: Set<NodeID> = []
            while asked.mode == .relay {
                #expect(refused.insert(asked.node).inserted)
                let next = stage.answer(asked.tag, refusal).compactMap(\.asked).first
                asked = try #require(next, "\(refusal)")
            }
            #expect(asked.node == stage.others[0])
            #expect(!refused.isEmpty)
        }
    }

    @Test func `a chunk is handed on only downwards, and by a node that is after it`() {
        var stage = stage()
        for id in someChunks(30) {
            hold(id, &stage)
            for peer in stage.mesh.seekers {
                let below = Rendezvous.ranking(of: id, among: [stage.me, peer])[0] == stage.me
                #expect((stage.wantToRelay(id, to: peer).0 == .joined) == below)
            }
        }
        var idle = self.stage()
        idle.mesh.isSeeking = false
        let id = chunks(1, first: true, idle)[0]
        hold(id, &idle)
        #expect(idle.wantToRelay(id, to: idle.others[1]).0 == .declined)
        _ = idle.want(id)
        #expect(idle.wantToRelay(id, to: idle.others[1]).0 == .joined)
    }

    @Test func `a node below a slow one takes chunks from their holder when nothing arrives`() {
        var stage = stage()
        let ids = chunks(6, first: false, stage)
        for id in ids { hold(id, &stage) }
        let relays = ids.flatMap { stage.want($0) }.compactMap(\.asked)
        #expect(relays.allSatisfy { $0.mode == .relay } && relays.count == 6)
        let actions = stage.untilAction(within: .seconds(2))
        #expect(stage.now < .seconds(102))
        let direct = actions.compactMap(\.asked)
        #expect(direct.map(\.chunk) == Array(ids.prefix(FetchPlanner.Limits().transfersPerPeer)))
        #expect(direct.allSatisfy { $0.node == stage.others[0] && $0.mode == .ifHeld })
    }

    @Test func `nobody stands first for all chunks`() {
        let nodes = someNodes(2, seed: 5)
        let ids = someChunks(100)
        let order = Rendezvous.ownFirst(ids, nodes[0], window: 50)
        #expect(order.sorted() == Array(0..<100))
        #expect(order.prefix(50).sorted() == Array(0..<50))
        let other = Rendezvous.ownFirst(ids, nodes[1], window: 50)
        #expect(Set(order.prefix(10)).intersection(other.prefix(10)).count < 6)
    }
}
