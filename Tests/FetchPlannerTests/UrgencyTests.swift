import ChunkModel
import FetchPlanner
import MeshKeys
import Testing

@Suite struct UrgencyTests {
    @Test func `upstream places are kept, and the most urgent and oldest want gets the next one`() {
        var stage = Stage(others: 0, places: 2) { $0.foregroundUpstreams = 0 }
        let ids = someChunks(6)
        let begun = ids[..<5].flatMap { stage.want($0) } + stage.want(ids[5], .foreground)
        #expect(begun.compactMap(\.fetched) == [ids[0], ids[1]])
        #expect(stage.arrived(ids[0]).compactMap(\.fetched) == [ids[5]])
        // A read makes one that is in line already urgent.
        #expect(stage.want(ids[4], .foreground).isEmpty)
        #expect(stage.arrived(ids[1]).compactMap(\.fetched) == [ids[4]])
        #expect(stage.arrived(ids[5]).compactMap(\.fetched) == [ids[2]])
        #expect(stage.planner.upstreamCount == 2)
        #expect(stage.planner.setUpstreamPlaces(3, now: stage.now, view: stage.mesh).compactMap(\.fetched) == [ids[3]])
    }

    @Test func `a read does not stand behind prefetches at upstream, and makes one that is under way urgent`() {
        var stage = Stage(others: 0, places: 1) { $0.foregroundUpstreams = 2 }
        let ids = someChunks(6)
        #expect(ids[..<2].flatMap { stage.want($0) }.compactMap(\.fetched) == [ids[0]])
        #expect(ids[2..<5].flatMap { stage.want($0, .foreground) }.compactMap(\.fetched) == [ids[2], ids[3]])
        #expect(stage.want(ids[0], .foreground) == [.hastenUpstream(ids[0])])
        // Those beyond the places are for readers only.
        #expect(stage.arrived(ids[2]).compactMap(\.fetched) == [ids[4]])
        #expect(stage.arrived(ids[3]).compactMap(\.fetched).isEmpty)
        #expect(stage.arrived(ids[4]).compactMap(\.fetched).isEmpty)
        #expect(stage.arrived(ids[0]).compactMap(\.fetched) == [ids[1]])
    }

    @Test func `a line that is open for readers lets prefetches wait, and a closed one tells readers why`() {
        var stage = Stage(others: 0, places: 2)
        let ids = someChunks(6)
        #expect(stage.planner.setLineGate(.readsOnly, now: stage.now, view: stage.mesh).isEmpty)
        #expect(stage.want(ids[0]).isEmpty)
        #expect(stage.want(ids[1], .foreground).compactMap(\.fetched) == [ids[1]])
        #expect(stage.planner.setLineGate(.closed("shut"), now: stage.now, view: stage.mesh).isEmpty)
        #expect(stage.want(ids[2], .foreground) == [.fail(ids[2], .unreachable("shut"))])
        // One that waits as a prefetch is told to its reader too.
        #expect(stage.want(ids[0], .foreground) == [.fail(ids[0], .unreachable("shut"))])
        #expect(stage.want(ids[3]).isEmpty)
        #expect(stage.planner.setLineGate(.open, now: stage.now, view: stage.mesh).compactMap(\.fetched) == [ids[3]])
    }

    @Test func `a foreground read overtakes those in line at a holder`() {
        var stage = Stage(others: 1) { $0.transfersPerPeer = 1 }
        let ids = someChunks(8)
        for id in ids { stage.mesh.holders[id] = stage.others }
        let first = ids[..<4].flatMap { stage.want($0) }.compactMap(\.asked)
        #expect(first.map(\.chunk) == [ids[0]])
        // Two places more than a prefetch has.
        let urgent = ids[4...].flatMap { stage.want($0, .foreground) }.compactMap(\.asked)
        #expect(urgent.map(\.chunk) == [ids[4], ids[5]])
        let next = stage.answer(first[0].tag, .received).compactMap(\.asked)
        #expect(next.map(\.chunk) == [ids[6]])
    }

    @Test func `an owner is told when a prefetch becomes a read, without losing its place there`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: false)[0]
        let first = stage.want(id)[0].asked!
        let actions = stage.want(id, .foreground)
        #expect(actions.count == 2)
        #expect(actions[0].asked?.priority == .foreground)
        #expect(actions[0].asked?.node == first.node)
        #expect(actions[1] == .cancel(first.tag))
    }

    @Test func `a slow holder of a foreground read is hedged by a second one, never by upstream`() {
        var stage = Stage(others: 2)
        let ids = stage.chunks(2, mine: true)
        stage.mesh.holders = [ids[0]: stage.others, ids[1]: [stage.others[0]]]
        let first = stage.want(ids[0], .foreground)[0].asked!
        let only = stage.want(ids[1], .foreground)[0].asked!
        #expect(stage.tick(after: .milliseconds(20)).isEmpty)
        let hedge = stage.tick(after: .milliseconds(200))
        #expect(hedge.compactMap(\.asked).map(\.chunk) == [ids[0]])
        #expect(hedge.compactMap(\.asked).first?.node != first.node)
        #expect(stage.tick(after: .seconds(5)).isEmpty)
        // The first to arrive cancels the other.
        let second = hedge[0].asked!
        _ = stage.answer(second.tag, .received)
        #expect(stage.arrived(ids[0]) == [.cancel(first.tag)])
        #expect(stage.arrived(ids[1]) == [.cancel(only.tag)])
    }

    @Test func `the tail of a prefetch is asked twice, its middle is not`() {
        var stage = Stage(others: 2)
        let ids = someChunks(4)
        for id in ids { stage.mesh.holders[id] = stage.others }
        for id in ids { _ = stage.want(id) }
        #expect(stage.tick(after: .seconds(2)).isEmpty)
        _ = stage.arrived(ids[0])
        #expect(stage.tick(after: .milliseconds(1)).compactMap(\.asked).count == 3)
    }

    @Test func `one waiter that gives up does not end it for the others`() {
        var stage = Stage(others: 1)
        let id = stage.chunks(1, mine: false)[0]
        let request = stage.want(id)[0].asked!
        _ = stage.want(id)
        #expect(stage.abandon(id).isEmpty)
        #expect(stage.abandon(id) == [.cancel(request.tag)])
        #expect(stage.planner.wantCount == 0)
        #expect(stage.abandon(id).isEmpty)
    }

    @Test func `a fetch from upstream that has begun outlives its waiters`() {
        var stage = Stage(others: 0, places: 1)
        let ids = someChunks(2)
        _ = ids.map { stage.want($0) }
        #expect(stage.abandon(ids[0]).isEmpty)
        #expect(stage.abandon(ids[1]).isEmpty)
        #expect(stage.planner.wantCount == 1)
        #expect(stage.want(ids[0]).isEmpty)
        #expect(stage.arrived(ids[0]) == [.cancelUpstream(ids[0])])
    }

    @Test func `wants beyond the limits are refused`() {
        var stage = Stage(others: 0) { ($0.localWants, $0.peerWants) = (2, 1) }
        let ids = someChunks(4)
        func isTaken(_ id: ChunkID) -> Bool {
            stage.planner.want(id, flist: nil, priority: .prefetch, now: .zero, view: stage.mesh) != nil
        }
        #expect(isTaken(ids[0]))
        #expect(stage.wantForPeer(ids[1]).0 == .joined)
        #expect(stage.wantForPeer(ids[2]).0 == .busy)
        #expect(isTaken(ids[1]))
        #expect(!isTaken(ids[3]))
        #expect(stage.wantForPeer(ids[3]).0 == .joined)
    }

    @Test func `peers are told at once when the owner's upstream fails, and those in the node go on`() {
        var stage = Stage(others: 1)
        let id = stage.chunks(1, mine: true)[0]
        _ = stage.want(id)
        #expect(stage.wantForPeer(id).0 == .joined)
        let actions = stage.upstream(id, .failed("no route"))
        #expect(actions.first == .failPeers(id, .unreachable("no route")))
        #expect(actions.last?.asked?.mode == .fetch)
        // Now that it waits for another owner it takes on nobody.
        #expect(stage.wantForPeer(id).0 == .notOwner)
    }

    @Test func `a peer alone does not send this node to another owner`() {
        var stage = Stage(others: 2)
        let id = stage.chunks(1, mine: false)[0]
        let (answer, actions) = stage.wantForPeer(id)
        #expect(answer == .joined)
        #expect(actions.compactMap(\.fetched) == [id])
        #expect(stage.upstream(id, .failed("no route")) == [.fail(id, .unreachable("no route"))])
        stage.mesh.owners = stage.others
        #expect(stage.wantForPeer(id).0 == .declined)
    }

    @Test func `who cannot fetch takes on no waiter, not even for what it wants itself`() {
        var stage = Stage(others: 2)
        let id = stage.chunks(1, mine: false)[0]
        stage.mesh.owners = [stage.others[0]]
        let asked = stage.want(id).compactMap(\.asked)[0]
        #expect(asked.mode == .fetch && stage.answer(asked.tag, .notOwner).isEmpty)
        // It rests until it asks again: nothing is under way, but the owner may be one of those that ask.
        #expect(stage.wantForPeer(id).0 == .declined)
    }

    @Test func `peers that wait are told when a round through all sources is over`() {
        var stage = Stage(others: 1)
        let id = stage.chunks(1, mine: true)[0]
        stage.mesh.holders = [id: stage.others]
        let asked = stage.want(id).compactMap(\.asked)[0]
        #expect(stage.wantForPeer(id).0 == .joined)
        (stage.mesh.holders, stage.mesh.owners) = ([:], [])
        let told = stage.answer(asked.tag, .missing).contains { if case .failPeers(id, _) = $0 { true } else { false } }
        #expect(told)
        stage.mesh.owners = [stage.planner.me]
        #expect(stage.wantForPeer(id).0 == .joined)
    }

    @Test func `wants that cannot go on do not keep those behind them from being looked at`() {
        var stage = Stage(others: 1) { $0.transfersPerPeer = 1 }
        let ids = someChunks(2000)
        for id in ids[..<1999] { stage.mesh.holders[id] = stage.others }
        stage.mesh.owners = [stage.me]
        let actions = ids.flatMap { stage.want($0) }
        #expect(actions.compactMap(\.fetched) == [ids[1999]])
    }

    @Test func `work per event does not grow with the wants in line`() {
        func seconds(_ count: Int) -> Double {
            var stage = Stage(others: 7, places: 1)
            let ids = someChunks(count)
            for id in ids { stage.mesh.holders[id] = [stage.others[0]] }
            var requests: [RequestTag] = []
            var chunks: [ChunkID] = []
            func note(_ actions: [FetchAction]) {
                for asked in actions.compactMap(\.asked) {
                    requests.append(asked.tag)
                    chunks.append(asked.chunk)
                }
            }
            for id in ids { note(stage.want(id)) }
            let clock = ContinuousClock()
            let taken = clock.measure {
                for event in 0..<1000 {
                    note(stage.answer(requests[event], .received))
                    note(stage.arrived(chunks[event]))
                }
            }
            #expect(stage.planner.wantCount == count - 1000)
            return taken / .seconds(1)
        }
        let (few, many) = (seconds(1024), seconds(8192))
        print("1000 chunks received: \(few) s with 1024 wants, \(many) s with 8192")
        // Eight times as many wants; with work for each of them it would be eight times as long.
        #expect(many < few * 4 + 0.2)
        #expect(many < 5)
    }
}
