import ChunkModel
import FetchPlanner
import MeshKeys
import Testing

@Suite struct SourcesTests {
    @Test func `a chunk that a peer holds comes from that peer, whoever owns it`() {
        var stage = Stage()
        for id in stage.chunks(2, mine: true) + stage.chunks(2, mine: false) {
            stage.mesh.holders[id] = [stage.others[1]]
            let asked = stage.want(id).compactMap(\.asked)
            #expect(asked.map(\.node) == [stage.others[1]])
            #expect(asked.first?.mode == .ifHeld)
        }
    }

    @Test func `requests spread over all holders, and no holder gets more than its transfers`() {
        var stage = Stage(others: 4)
        var asked: [NodeID: Int] = [:]
        for id in someChunks(40) {
            stage.mesh.holders[id] = stage.others
            for request in stage.want(id).compactMap(\.asked) { asked[request.node, default: 0] += 1 }
        }
        #expect(asked.count == 4)
        #expect(asked.values.allSatisfy { $0 == stage.planner.limits.transfersPerPeer })
    }

    @Test func `a free place at a holder goes to the oldest want in line`() {
        var stage = Stage(others: 1)
        let ids = someChunks(10)
        for id in ids { stage.mesh.holders[id] = stage.others }
        var requests = ids.flatMap { stage.want($0) }.compactMap(\.asked)
        #expect(requests.map(\.chunk) == Array(ids[..<4]))
        while let done = requests.first {
            requests.removeFirst()
            requests += stage.answer(done.tag, .received).compactMap(\.asked)
            requests += stage.arrived(done.chunk).compactMap(\.asked)
            if let last = requests.last, requests.count == 4 { #expect(last.chunk == ids[ids.firstIndex(of: done.chunk)! + 4]) }
        }
        #expect(stage.planner.wantCount == 0)
    }

    @Test func `without a holder the node that says it is fetching is asked to send it`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: true)[0]
        stage.mesh.claimants[id] = stage.others[2]
        let asked = stage.want(id).compactMap(\.asked)
        #expect(asked.map(\.node) == [stage.others[2]])
        #expect(asked.first?.mode == .fetch)
    }

    @Test func `all nodes name the same owner, and it alone goes upstream`() {
        let nodes = someNodes(6)
        for id in someChunks(30) {
            var upstream = 0
            for me in nodes {
                var planner = FetchPlanner(me: me)
                let view = ScriptedMesh(owners: nodes.shuffled())
                let actions = planner.want(id, flist: nil, priority: .prefetch, now: .zero, view: view) ?? []
                upstream += actions.compactMap(\.fetched).count
                if let asked = actions.first?.asked { #expect(asked.node == Rendezvous.ranking(of: id, among: nodes)[0]) }
            }
            #expect(upstream == 1)
        }
    }

    @Test(arguments: [PeerAnswer.failed, .declined, .upstreamFailed])
    func `the next in the ranking takes over from an owner that cannot`(answer: PeerAnswer) {
        var stage = Stage()
        let id = stage.chunks(1, mine: false)[0]
        let ranking = stage.ranking(id)
        let first = stage.want(id)[0].asked
        #expect(first?.node == ranking[0])
        let next = stage.answer(first?.tag, answer)
        if ranking[1] == stage.me {
            #expect(next.compactMap(\.fetched) == [id])
        } else {
            #expect(next.compactMap(\.asked).map(\.node) == [ranking[1]])
        }
    }

    @Test func `an owner that is not yet one is asked again a few times before the next one is`() {
        var stage = Stage(others: 1)
        let id = stage.chunks(1, mine: false)[0]
        var request = stage.want(id)[0].asked
        let start = stage.now
        for _ in 0..<stage.planner.limits.notOwnerRetries {
            #expect(stage.answer(request?.tag, .notOwner) == [])
            request = stage.untilAction(within: .seconds(5)).first?.asked
            #expect(request?.node == stage.others[0])
        }
        #expect(stage.answer(request?.tag, .notOwner).compactMap(\.fetched) == [id])
        #expect(stage.now - start < .seconds(4))
    }

    @Test func `a busy owner is waited for, but not by a foreground read`() {
        var stage = Stage(others: 1)
        let ids = stage.chunks(2, mine: false)
        let request = stage.want(ids[0])[0].asked
        #expect(stage.answer(request?.tag, .busy(retryAfter: .milliseconds(300))) == [])
        #expect(stage.want(ids[1], .foreground).compactMap(\.fetched) == [ids[1]])
        let again = stage.untilAction(within: .seconds(1)).compactMap(\.asked)
        #expect(again.map(\.chunk) == [ids[0]])
        #expect(again.map(\.node) == stage.others)
    }

    @Test func `an owner that is busy for ever is given up`() {
        var stage = Stage(others: 1)
        let id = stage.chunks(1, mine: false)[0]
        var actions = stage.want(id)
        let start = stage.now
        while let request = actions.first?.asked {
            _ = stage.answer(request.tag, .busy(retryAfter: .seconds(1)))
            actions = stage.untilAction(within: .seconds(20))
        }
        #expect(actions.compactMap(\.fetched) == [id])
        #expect(stage.now - start < .seconds(15))
    }

    @Test func `a chunk that a live holder has is never pulled from upstream because the holder is busy`() {
        var stage = Stage(others: 1)
        let id = stage.chunks(1, mine: true)[0]
        stage.mesh.holders[id] = stage.others
        let request = stage.want(id)[0].asked
        #expect(stage.answer(request?.tag, .busy(retryAfter: .milliseconds(100))) == [])
        let again = stage.untilAction(within: .seconds(1))
        #expect(again.first?.asked?.mode == .ifHeld)
    }

    @Test func `a holder that does not have it loses its claim, and the owner is asked`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: true)[0]
        stage.mesh.holders[id] = [stage.others[0]]
        let request = stage.want(id)[0].asked
        let actions = stage.answer(request?.tag, .missing)
        #expect(actions.contains(.dropStaleClaim(stage.others[0], id)))
        #expect(actions.compactMap(\.fetched) == [id])
    }

    @Test func `missing at two nodes' upstream, own included, is missing`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: false)[0]
        var actions = stage.want(id)
        var asked = 0
        for _ in 0..<10 {
            if let request = actions.first?.asked {
                asked += 1
                actions = stage.answer(request.tag, .missing)
            } else if let own = actions.first?.fetched {
                asked += 1
                actions = stage.upstream(own, .missing)
            }
        }
        #expect(actions == [] || actions.first?.failure?.why == .missing)
        #expect(stage.planner.wantCount == 0)
        #expect(asked <= 3)
    }

    @Test func `a single node without peers says missing at once, and unreachable after its rounds`() {
        var stage = Stage(others: 0)
        let ids = someChunks(2)
        _ = stage.want(ids[0])
        #expect(stage.upstream(ids[0], .missing) == [.fail(ids[0], .missing)])
        var actions = stage.want(ids[1], .foreground)
        var tries = 0
        while actions.compactMap(\.fetched) == [ids[1]] {
            tries += 1
            actions = stage.upstream(ids[1], .failed("no route"))
            if actions.isEmpty { actions = stage.untilAction(within: .seconds(30)) }
        }
        #expect(actions == [.fail(ids[1], .unreachable("no route"))])
        #expect(tries == stage.planner.limits.rounds)
    }

    @Test func `what rests after a vain round is tried at once when upstream is back`() {
        var stage = Stage(others: 0)
        let id = someChunks(1)[0]
        _ = stage.want(id)
        for _ in 0..<3 {
            #expect(stage.upstream(id, .failed("down")).isEmpty)
            #expect(stage.planner.upstreamIsBack(now: stage.now, view: stage.mesh).compactMap(\.fetched) == [id])
        }
        #expect(stage.planner.upstreamIsBack(now: stage.now, view: stage.mesh).isEmpty)
    }

    @Test func `wrong bytes lead to the next source, and three of them to being shunned`() {
        var stage = Stage(others: 2)
        let bad = stage.others[0]
        for (count, id) in someChunks(3).enumerated() {
            stage.mesh.holders[id] = [bad]
            let request = stage.want(id)[0].asked
            #expect(request?.node == bad)
            _ = stage.answer(request?.tag, .received)
            stage.mesh.holders[id] = [bad, stage.others[1]]
            let next = stage.answer(request?.tag, .corrupt)
            #expect(next.contains(.dropStaleClaim(bad, id)))
            #expect(next.compactMap(\.asked).map(\.node) == [stage.others[1]])
            #expect(stage.planner.isShunned(bad, now: stage.now) == (count == 2))
        }
        let id = someChunks(1, seed: 9)[0]
        stage.mesh.holders[id] = [bad]
        #expect(stage.want(id).compactMap(\.asked).allSatisfy { $0.mode == .fetch && $0.node != bad })
    }

    @Test(arguments: [FetchPriority.prefetch, .foreground])
    func `a want in line, or at rest after failures, sees that a peer has got the chunk`(priority: FetchPriority) {
        var stage = Stage(others: 1, places: 1) { $0.foregroundUpstreams = 0 }
        stage.mesh.owners = [stage.me]
        let ids = someChunks(2)
        _ = ids.flatMap { stage.want($0, priority) }
        stage.mesh.holders[ids[1]] = stage.others
        #expect(stage.untilAction(within: .seconds(6)).compactMap(\.asked).map(\.chunk) == [ids[1]])
        #expect(stage.upstream(ids[0], .failed("down")) == [])
        stage.mesh.holders[ids[0]] = stage.others
        #expect(stage.untilAction(within: .seconds(6)).compactMap(\.asked).map(\.chunk) == [ids[0]])
    }

    @Test func `what waits at a dead node moves on with the next tick`() {
        var stage = Stage(others: 1)
        let id = stage.chunks(1, mine: false)[0]
        let request = stage.want(id)[0].asked
        stage.mesh.dead = [stage.others[0]]
        let actions = stage.tick()
        #expect(actions == [.cancel(request!.tag), .fetchUpstream(id, flist: nil, priority: .prefetch)])
    }

    @Test func `an owner that goes on delivering is not given up, however long its queue`() {
        var stage = Stage(others: 1)
        let ids = stage.chunks(20, mine: false)
        var requests = ids.flatMap { stage.want($0) }.compactMap(\.asked)
        while requests.count > 1 {
            #expect(stage.tick(after: .seconds(60)).isEmpty)
            let done = requests.removeFirst()
            _ = stage.answer(done.tag, .received)
            _ = stage.arrived(done.chunk)
        }
        #expect(stage.tick(after: .seconds(200)).compactMap(\.fetched) == [ids[19]])
    }

    @Test func `what stands in line for upstream goes to a node that has become its owner`() {
        var stage = Stage(others: 1, places: 1)
        let mine = stage.chunks(1, mine: true)[0]
        let ids = stage.chunks(3, mine: false)
        stage.mesh.owners = [stage.me]
        #expect(([mine] + ids).flatMap { stage.want($0) }.compactMap(\.fetched) == [mine])
        stage.mesh.owners = [stage.me] + stage.others
        let asked = stage.arrived(mine).compactMap(\.asked)
        #expect(asked.map(\.chunk) == ids)
        #expect(asked.allSatisfy { $0.mode == .fetch && $0.node == stage.others[0] })
    }
}
