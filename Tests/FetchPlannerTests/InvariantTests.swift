import ChunkModel
@testable import FetchPlanner
import MeshKeys
import Testing

@Suite struct InvariantTests {
    /// Whatever peers and upstream answer, in whatever order: the tables agree with each other, and every want ends.
    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func `every want ends, and nothing is left behind`(seed: UInt64) throws {
        var random = Seeded(seed)
        var stage = Stage(others: 5, places: 2) {
            ($0.transfersPerPeer, $0.waitsPerPeer, $0.wantsPerPass, $0.peerWants) = (2, 3, 7, 20)
        }
        let ids = someChunks(60, seed: seed)
        if seed % 2 == 0 {
            stage.flist = someFlist(seed: 99)
            (stage.mesh.seekers, stage.mesh.isSeeking) = (Array(stage.others.prefix(4)), seed % 4 == 0)
        }
        var relayed: [ChunkID: Int] = [:]
        var tags: [RequestTag] = []
        var verifying: [RequestTag: ChunkID] = [:]
        var upstream: [ChunkID] = []
        var local: [ChunkID: Int] = [:]
        var peers: [ChunkID: Int] = [:]
        var chunkOf: [RequestTag: ChunkID] = [:]

        func perform(_ actions: [FetchAction]) {
            for action in actions {
                switch action {
                case .ask(let node, let id, _, _, _, let tag):
                    #expect(node != stage.me)
                    tags.append(tag)
                    chunkOf[tag] = id
                case .cancel(let tag): tags.removeAll { $0 == tag }
                case .fetchUpstream(let id, _, _):
                    #expect(!upstream.contains(id))
                    upstream.append(id)
                case .cancelUpstream(let id): upstream.removeAll { $0 == id }
                case .failPeers(let id, _): (peers[id], relayed[id]) = (nil, nil)
                case .fail(let id, _): (local[id], peers[id], relayed[id]) = (nil, nil, nil)
                case .dropStaleClaim(let node, let id): stage.mesh.holders[id]?.removeAll { $0 == node }
                case .suspect, .hastenUpstream: break
                }
            }
        }
        func arrive(_ id: ChunkID) {
            (local[id], peers[id], relayed[id]) = (nil, nil, nil)
            perform(stage.arrived(id))
        }
        func step(_ kind: Int) {
            let id = ids.randomElement(using: &random)!
            switch kind {
            case 0..<4:
                // The shell notes the waiter before it carries out the actions, one of which may be that it failed at once.
                let actions = stage.want(id, FetchPriority.allCases.randomElement(using: &random)!)
                local[id, default: 0] += 1
                perform(actions)
            case 4 where stage.flist != nil:
                let (answer, actions) = stage.wantToRelay(id, to: stage.others.randomElement(using: &random)!)
                if answer == .joined {
                    peers[id, default: 0] += 1
                    relayed[id, default: 0] += 1
                }
                perform(actions)
            case 4..<6:
                let (answer, actions) = stage.wantForPeer(id, FetchPriority.allCases.randomElement(using: &random)!)
                if answer == .joined { peers[id, default: 0] += 1 }
                perform(actions)
            case 6:
                if let count = local[id] {
                    local[id] = count > 1 ? count - 1 : nil
                    perform(stage.abandon(id))
                }
            case 7:
                if let count = peers[id] {
                    peers[id] = count > 1 ? count - 1 : nil
                    let wasRelayed = relayed[id] ?? 0 > 0
                    if wasRelayed { relayed[id]! -= 1 }
                    perform(stage.abandon(id, forPeer: true, relayed: wasRelayed))
                }
            case 8:
                stage.mesh.holders[id, default: []] = Array(
                    Set((stage.mesh.holders[id] ?? []) + [stage.others.randomElement(using: &random)!])
                ).sorted()
            case 9: stage.mesh.claimants[id] = Bool.random(using: &random) ? stage.others.randomElement(using: &random)! : nil
            case 10:
                stage.mesh.dead = Int.random(in: 0..<3, using: &random) == 0 ? [stage.others.randomElement(using: &random)!] : []
            case 11: perform(stage.tick(after: .milliseconds(Int.random(in: 0..<3000, using: &random))))
            case 12: perform(stage.planner.setUpstreamPlaces(Int.random(in: 0...4, using: &random), now: stage.now, view: stage.mesh))
            case 13..<17:
                guard let tag = tags.randomElement(using: &random) else { return }
                let answers: [PeerAnswer] = [
                    .pending, .received, .received, .corrupt, .missing, .busy(retryAfter: .milliseconds(200)), .declined, .notOwner,
                    .upstreamFailed,
                    .failed,
                ]
                let answer = answers.randomElement(using: &random)!
                if answer != .pending { tags.removeAll { $0 == tag } }
                if answer == .received { verifying[tag] = chunkOf[tag] }
                perform(stage.answer(tag, answer))
            case 17:
                guard let (tag, id) = verifying.min(by: { $0.key.value < $1.key.value }) else { return }
                verifying[tag] = nil
                switch Int.random(in: 0..<4, using: &random) {
                case 0: perform(stage.answer(tag, .corrupt))
                case 1: perform(stage.answer(tag, .failed))
                default: arrive(id)
                }
            default:
                guard let id = upstream.randomElement(using: &random) else { return }
                switch Int.random(in: 0..<4, using: &random) {
                case 0:
                    upstream.removeAll { $0 == id }
                    perform(stage.upstream(id, .missing))
                case 1:
                    upstream.removeAll { $0 == id }
                    perform(stage.upstream(id, .failed("down")))
                default: arrive(id)
                }
            }
        }

        for count in 0..<1500 {
            step(Int.random(in: 0..<20, using: &random))
            try check(stage.planner, tags: tags, upstream: upstream, waiting: (local, peers), seed: seed, step: count)
        }
        // From now on nobody wants more, and every request ends somehow.
        stage.mesh.dead = []
        for _ in 0..<60_000 where stage.planner.wantCount > 0 {
            step(11)
            for _ in 0..<4 { step(Int.random(in: 13..<20, using: &random)) }
        }
        #expect(stage.planner.wantCount == 0, "seed \(seed)")
        #expect(local.isEmpty && peers.isEmpty, "seed \(seed)")
        try check(stage.planner, tags: tags, upstream: upstream, waiting: (local, peers), seed: seed, step: -1)
        #expect(stage.planner.nextDeadline(now: stage.now) == nil)
    }

    private func check(
        _ planner: FetchPlanner, tags: [RequestTag], upstream: [ChunkID], waiting: (local: [ChunkID: Int], peers: [ChunkID: Int]),
        seed: UInt64,
        step: Int
    ) throws {
        let wants = planner.wants
        var attempts: Set<RequestTag> = []
        var transfers: [NodeID: Int] = [:]
        var waits: [NodeID: Int] = [:]
        for (id, want) in wants {
            for attempt in want.attempts {
                guard case .peer(let node, let mode, let tag, _) = attempt else { continue }
                attempts.insert(tag)
                if mode == .ifHeld { transfers[node, default: 0] += 1 } else { waits[node, default: 0] += 1 }
            }
            attempts.formUnion(want.verifying.keys)
            try #require(
                want.localWaiters == waiting.local[id] ?? 0 && want.peerWaiters == waiting.peers[id] ?? 0, "seed \(seed) step \(step)")
            try #require(want.isIdle == (want.standing != .busy), "a want that nobody looks after: seed \(seed) step \(step)")
        }
        for id in Set(waiting.local.keys).union(waiting.peers.keys) { try #require(wants[id] != nil, "seed \(seed) step \(step)") }
        try #require(Set(planner.tags.keys) == attempts, "seed \(seed) step \(step)")
        try #require(attempts.isSuperset(of: tags), "seed \(seed) step \(step)")
        for (node, load) in planner.loads {
            try #require(load.transfers == transfers[node] ?? 0 && load.waits == waits[node] ?? 0, "seed \(seed) step \(step)")
        }
        let relays = wants.values.flatMap(\.attempts).count { if case .peer(_, .relay, _, _) = $0 { true } else { false } }
        try #require(planner.relays == relays, "seed \(seed) step \(step)")
        try #require(wants.values.allSatisfy { $0.relayWaiters <= $0.peerWaiters }, "seed \(seed) step \(step)")
        try #require(planner.upstreamActive == Set(upstream), "seed \(seed) step \(step)")
        try #require(planner.peerOnlyWants == wants.values.count { $0.localWaiters == 0 }, "seed \(seed) step \(step)")
        for priority in FetchPriority.allCases {
            try #require(
                planner.counts[Int(priority.rawValue)] == wants.values.count { $0.priority == priority }, "seed \(seed) step \(step)")
        }
        let entries = planner.loads.values.reduce(planner.ready.count + planner.upstreamLine.count) {
            $0 + $1.transferLine.count + $1.waitLine.count
        }
        try #require(entries < 4000, "lines grow: seed \(seed) step \(step)")
    }

    /// Nodes whose views differ, all wanting the same chunk: nobody may end up waiting for himself.
    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func `no nodes wait for each other in a circle`(seed: UInt64) {
        var random = Seeded(seed)
        let nodes = someNodes(6, seed: seed)
        let id = someChunks(1, seed: seed)[0]
        let flist = someFlist(seed: seed)
        var planners = nodes.map { FetchPlanner(me: $0) }
        var now: Duration = .zero
        /// Requests accepted: who waits at whom.
        var waiting: [Int: (at: Int, tag: RequestTag)] = [:]
        var requests: [(from: Int, to: Int, mode: AskMode, tag: RequestTag)] = []
        var answers: [(to: Int, tag: RequestTag, answer: PeerAnswer)] = []
        var fetching: Set<Int> = []
        // Everybody believes something else about who may own the chunk, who fetches it, who is after it, and whether anybody holds it.
        var views = nodes.indices.map { _ in ScriptedMesh(owners: nodes.filter { _ in Bool.random(using: &random) }) }
        func perform(_ node: Int, _ actions: [FetchAction]) {
            for action in actions {
                switch action {
                case .ask(let to, _, _, let mode, _, let tag): requests.append((node, nodes.firstIndex(of: to)!, mode, tag))
                case .cancel(let tag):
                    if waiting[node]?.tag == tag { waiting[node] = nil }
                    requests.removeAll { $0.from == node && $0.tag == tag }
                case .fetchUpstream: fetching.insert(node)
                case .cancelUpstream: fetching.remove(node)
                case .fail, .failPeers:
                    for (from, edge) in waiting where edge.at == node {
                        waiting[from] = nil
                        answers.append((from, edge.tag, .upstreamFailed))
                    }
                case .dropStaleClaim, .suspect, .hastenUpstream: break
                }
            }
        }
        for node in nodes.indices {
            perform(node, planners[node].want(id, flist: flist, priority: .prefetch, now: now, view: views[node]) ?? [])
        }
        for _ in 0..<600 {
            now += .milliseconds(Int.random(in: 0..<40, using: &random))
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                guard !requests.isEmpty else { continue }
                let request = requests.remove(at: Int.random(in: requests.indices, using: &random))
                guard request.mode != .ifHeld else {
                    answers.append((request.from, request.tag, .missing))
                    continue
                }
                let (answer, actions) =
                    request.mode == .relay
                    ? planners[request.to].wantToRelay(id, flist: flist, to: nodes[request.from], now: now, view: views[request.to])
                    : planners[request.to].wantForPeer(id, flist: flist, priority: .prefetch, now: now, view: views[request.to])
                switch answer {
                case .joined: waiting[request.from] = (request.to, request.tag)
                case .notOwner: answers.append((request.from, request.tag, .notOwner))
                case .declined: answers.append((request.from, request.tag, .declined))
                case .busy: answers.append((request.from, request.tag, .busy(retryAfter: .milliseconds(50))))
                }
                perform(request.to, actions)
            case 5..<7:
                guard !answers.isEmpty else { continue }
                let (to, tag, answer) = answers.removeFirst()
                perform(to, planners[to].peerAnswered(tag, answer, now: now, view: views[to]))
            case 7:
                let node = Int.random(in: nodes.indices, using: &random)
                perform(node, planners[node].tick(now: now, view: views[node]))
            case 8:
                let node = Int.random(in: nodes.indices, using: &random)
                views[node].owners = nodes.filter { _ in Bool.random(using: &random) }
                views[node].seekers = nodes.filter { _ in Bool.random(using: &random) }
                views[node].isSeeking = Bool.random(using: &random)
                views[node].holders[id] = Bool.random(using: &random) ? [nodes[(node + 1) % nodes.count]] : []
                views[node].claimants[id] = nodes.filter { $0 != nodes[node] }.randomElement(using: &random)
            default:
                guard let node = fetching.sorted().randomElement(using: &random) else { continue }
                fetching.remove(node)
                perform(node, planners[node].upstreamAnswered(id, .failed("down"), now: now, view: views[node]))
            }
            for start in nodes.indices {
                var at = start
                for _ in nodes.indices { at = waiting[at]?.at ?? at }
                #expect(waiting[at] == nil, "seed \(seed): nodes wait for each other")
            }
        }
    }
}
