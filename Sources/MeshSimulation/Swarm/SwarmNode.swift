internal import ChunkModel
internal import FetchPlanner
internal import Gossip
internal import MeshKeys

/// One node: the planner and a plain shell that carries out its actions on the simulated links.
final class SwarmNode {
    let index: Int
    unowned let swarm: Swarm
    var planner: FetchPlanner
    var random: SplitMix64
    var startedAt: Duration?
    var diedAt: Duration?
    var death = Swarm.Death.reset
    var completedAt: Duration?
    /// Sends wrong bytes.
    var garbles = false
    /// Accepts requests and never answers them.
    var stalls = false
    var held: Set<Int> = []
    var fromPeers = 0
    var fromUpstream = 0
    var fromSite = 0
    var failures = 0
    var readLatency: [Int: Duration] = [:]
    private var order: [Int] = []
    private var cursor = 0
    private var wanted: Set<Int> = []
    private var missing = 0
    /// It wants everything, and says so.
    private(set) var seekingSince: Duration?
    var isSeeking: Bool { seekingSince != nil }
    private var sendsUntil: Duration = .zero
    private var receivesUntil: Duration = .zero
    private(set) var bytesSent = 0.0
    private(set) var bytesReceived = 0.0
    private var outstanding: [RequestTag: (node: Int, chunk: Int)] = [:]
    private var waiters: [Int: [(node: Int, tag: RequestTag, relayed: Bool)]] = [:]
    private var reads: [Int: Duration] = [:]
    private var tickAt: Duration?

    init(index: Int, swarm: Swarm, random: SplitMix64) {
        (self.index, self.swarm, self.random) = (index, swarm, random)
        planner = FetchPlanner(me: swarm.ids[index], limits: swarm.setup.limits)
    }

    private var view: SwarmView { SwarmView(swarm: swarm, me: index) }
    private var now: Duration { swarm.now }

    func start(_ order: [Int]) {
        self.order = order
        missing = order.count { !held.contains($0) }
        if missing > 0 {
            seekingSince = now
            swarm.noteSeeking(index, true)
        }
        if startedAt == nil {
            startedAt = now
            swarm.after(swarm.setup.gossip.most) { self.swarm.nodes.forEach { $0.meshChanged() } }
        }
        meshChanged()
        feed()
    }

    /// It has held everything for long.
    func fill() {
        held = Set(swarm.chunks.indices)
        for chunk in swarm.chunks.indices { swarm.holdings[chunk].append(index, swarm.ids[index], since: .seconds(-60)) }
    }

    /// A program reads the chunk.
    func read(_ chunk: Int) {
        guard !held.contains(chunk) else { return }
        reads[chunk] = now
        perform(planner.want(swarm.chunks[chunk], flist: swarm.flist, priority: .foreground, now: now, view: view) ?? [])
    }

    private func feed() {
        while wanted.count < swarm.setup.window, cursor < order.count {
            let chunk = order[cursor]
            cursor += 1
            guard !held.contains(chunk) else { continue }
            wanted.insert(chunk)
            perform(planner.want(swarm.chunks[chunk], flist: swarm.flist, priority: .prefetch, now: now, view: view) ?? [])
        }
        if completedAt == nil, !order.isEmpty, missing == 0 {
            completedAt = now
            if isSeeking { swarm.noteSeeking(index, false) }
            seekingSince = nil
        }
    }

    func meshChanged() {
        guard startedAt != nil, diedAt == nil else { return }
        let live = swarm.nodes.indices.count { swarm.knowsAlive($0, observer: index) }
        let places = max(swarm.setup.leastPlaces, swarm.setup.sitePlaces / max(1, live))
        perform(planner.setUpstreamPlaces(places, now: now, view: view))
        perform(planner.tick(now: now, view: view))
    }

    func store(_ chunk: Int, fromPeer: Bool) {
        if fromPeer { fromPeers += 1 } else { fromUpstream += 1 }
        if held.insert(chunk).inserted {
            swarm.holdings[chunk].append(index, swarm.ids[index], since: now)
            missing -= 1
        }
        wanted.remove(chunk)
        if let asked = reads.removeValue(forKey: chunk) { readLatency[chunk] = now - asked }
        perform(planner.arrived(swarm.chunks[chunk], now: now, view: view))
        for waiter in waiters.removeValue(forKey: chunk) ?? [] { send(chunk, to: waiter.node, tag: waiter.tag) }
        feed()
    }

    func upstreamFailed(_ chunk: Int) {
        perform(planner.upstreamAnswered(swarm.chunks[chunk], .failed("the hub is down"), now: now, view: view))
    }

    func peerDied(_ peer: Int, _ death: Swarm.Death) {
        let notice = death == .reset ? swarm.setup.lanLatency : swarm.setup.silenceNoticedAfter
        for (tag, request) in outstanding where request.node == peer {
            // Connections notice silence at different times.
            let jitter: Duration =
                death == .reset
                ? .microseconds(Int.random(in: 0..<500, using: &random)) : .milliseconds(Int.random(in: 0..<200, using: &random))
            swarm.after(notice + jitter) { self.answer(tag, .failed) }
        }
        for (chunk, list) in waiters {
            for waiter in list where waiter.node == peer { abandon(chunk, waiter.node, waiter.tag) }
        }
    }

    // MARK: Actions

    private func perform(_ actions: [FetchAction]) {
        for action in actions {
            switch action {
            case .ask(let node, let id, _, .site, _, let tag):
                guard let chunk = swarm.chunkIndex[id] else { continue }
                swarm.otherSite?.ask(node, chunk, for: self, tag, in: swarm)
            case .ask(let node, let id, _, let mode, let priority, let tag):
                guard let peer = swarm.indexOf[node], let chunk = swarm.chunkIndex[id] else { continue }
                outstanding[tag] = (peer, chunk)
                swarm.after(swarm.setup.lanLatency) { self.deliver(chunk, to: peer, mode, priority, tag) }
            case .cancel(let tag):
                guard let request = outstanding.removeValue(forKey: tag) else { continue }
                swarm.after(swarm.setup.lanLatency) { self.swarm.nodes[request.node].abandon(request.chunk, self.index, tag) }
            case .fetchUpstream(let id, _, _):
                guard let chunk = swarm.chunkIndex[id] else { continue }
                swarm.fetchUpstream(chunk, for: self)
            case .cancelUpstream, .hastenUpstream, .dropStaleClaim, .suspect: break
            case .failPeers(let id, let failure): tellWaiters(id, failure)
            case .fail(let id, let failure):
                tellWaiters(id, failure)
                guard let chunk = swarm.chunkIndex[id], wanted.remove(chunk) != nil else { continue }
                failures += 1
            }
        }
        planTick()
    }

    /// A gateway of the other site answered something else than the chunk.
    func answered(_ tag: RequestTag, _ answer: PeerAnswer) {
        guard diedAt == nil else { return }
        perform(planner.peerAnswered(tag, answer, now: now, view: view))
    }

    func receivedFromSite(_ chunk: Int, _ tag: RequestTag) {
        answered(tag, .received)
        guard diedAt == nil, !held.contains(chunk) else { return }
        fromSite += 1
        store(chunk, fromPeer: true)
        fromPeers -= 1
    }

    private func tellWaiters(_ id: ChunkID, _ failure: FetchFailure) {
        guard let chunk = swarm.chunkIndex[id] else { return }
        for waiter in waiters.removeValue(forKey: chunk) ?? [] {
            reply(waiter.node, waiter.tag, failure == .missing ? .missing : .upstreamFailed)
        }
    }

    private func planTick() {
        guard let due = planner.nextDeadline(now: now), tickAt.map({ due < $0 }) ?? true else { return }
        tickAt = due
        swarm.at(due) {
            guard self.tickAt == due, self.diedAt == nil else { return }
            self.tickAt = nil
            self.perform(self.planner.tick(now: self.now, view: self.view))
        }
    }

    private func deliver(_ chunk: Int, to peer: Int, _ mode: AskMode, _ priority: FetchPriority, _ tag: RequestTag) {
        let other = swarm.nodes[peer]
        if let died = other.diedAt {
            if other.death == .reset || now - died > .seconds(60) { return answer(tag, .failed) }
            return swarm.after(swarm.setup.silenceNoticedAfter) { self.answer(tag, .failed) }
        }
        guard swarm.reachable(index, peer), !other.stalls else {
            return swarm.after(swarm.setup.silenceNoticedAfter) { self.answer(tag, .failed) }
        }
        other.asked(chunk, by: index, mode, priority, tag)
    }

    // MARK: Serving

    private func asked(_ chunk: Int, by peer: Int, _ mode: AskMode, _ priority: FetchPriority, _ tag: RequestTag) {
        if held.contains(chunk) { return send(chunk, to: peer, tag: tag) }
        guard mode != .ifHeld else { return reply(peer, tag, .missing) }
        let (answer, actions) =
            mode == .relay
            ? planner.wantToRelay(swarm.chunks[chunk], flist: swarm.flist, to: swarm.ids[peer], now: now, view: view)
            : planner.wantForPeer(swarm.chunks[chunk], flist: swarm.flist, priority: priority, now: now, view: view)
        switch answer {
        case .joined: waiters[chunk, default: []].append((peer, tag, mode == .relay))
        case .busy: reply(peer, tag, .busy(retryAfter: .milliseconds(100)))
        case .notOwner: reply(peer, tag, .notOwner)
        case .declined: reply(peer, tag, .declined)
        }
        perform(actions)
    }

    private func abandon(_ chunk: Int, _ peer: Int, _ tag: RequestTag) {
        guard diedAt == nil, let position = waiters[chunk]?.firstIndex(where: { $0.node == peer && $0.tag == tag }) else { return }
        let relayed = waiters[chunk]?.remove(at: position).relayed ?? false
        perform(planner.abandon(swarm.chunks[chunk], forPeer: true, relayed: relayed, now: now, view: view))
    }

    private func reply(_ peer: Int, _ tag: RequestTag, _ answer: PeerAnswer) {
        swarm.after(swarm.setup.lanLatency) { self.swarm.nodes[peer].answer(tag, answer) }
    }

    /// A chunk leaves through this node's port after all that were put there before, and comes in through the other's in the same way.
    private func send(_ chunk: Int, to peer: Int, tag: RequestTag) {
        let takes: Duration = .nanoseconds(Int64(swarm.setup.chunkBytes / swarm.setup.lanBytesPerSecond * 1e9))
        sendsUntil = max(sendsUntil, now) + takes
        bytesSent += swarm.setup.chunkBytes
        swarm.at(sendsUntil + swarm.setup.lanLatency) {
            guard self.diedAt == nil, self.swarm.reachable(self.index, peer) else { return }
            let other = self.swarm.nodes[peer]
            other.receivesUntil = max(other.receivesUntil + takes, self.now)
            other.bytesReceived += self.swarm.setup.chunkBytes
            self.swarm.at(other.receivesUntil) { other.receive(chunk, tag, isWrong: self.garbles) }
        }
    }

    private func receive(_ chunk: Int, _ tag: RequestTag, isWrong: Bool) {
        guard diedAt == nil, outstanding.removeValue(forKey: tag) != nil else { return }
        perform(planner.peerAnswered(tag, .received, now: now, view: view))
        swarm.after(swarm.setup.verifyTime) {
            if isWrong {
                self.perform(self.planner.peerAnswered(tag, .corrupt, now: self.now, view: self.view))
            } else if !self.held.contains(chunk) {
                self.store(chunk, fromPeer: true)
            }
        }
    }

    private func answer(_ tag: RequestTag, _ answer: PeerAnswer) {
        guard diedAt == nil, outstanding.removeValue(forKey: tag) != nil else { return }
        perform(planner.peerAnswered(tag, answer, now: now, view: view))
    }
}

/// What one node knows of the swarm at this moment.
struct SwarmView: MeshView {
    unowned let swarm: Swarm
    let me: Int

    func holders(of chunk: ChunkID) -> [NodeID] {
        guard let index = swarm.chunkIndex[chunk] else { return [] }
        let holdings = swarm.holdings[index]
        let (old, recent) = holdings.split(at: swarm.now - swarm.setup.gossip.most)
        var known = Array(holdings.ids[old])
        for place in recent {
            let delay = swarm.newsDelay(from: holdings.nodes[place], to: me, salt: UInt64(index) + 1)
            if holdings.since[place] + delay <= swarm.now { known.append(holdings.ids[place]) }
        }
        if swarm.isTroubled { known.removeAll { swarm.indexOf[$0].map { !swarm.knowsAlive($0, observer: me) } ?? true } }
        let own = swarm.ids[me]
        if swarm.nodes[me].held.contains(index) { known.removeAll { $0 == own } }
        return known
    }

    func seekers(of flist: FlistDigest) -> Seekers { swarm.seekers(observer: me) }
    func isSeeking(_ flist: FlistDigest) -> Bool { swarm.nodes[me].isSeeking }

    func claimant(of chunk: ChunkID) -> NodeID? {
        guard let index = swarm.chunkIndex[chunk] else { return nil }
        for claim in swarm.claims[index] where claim.node != me {
            let delay = swarm.newsDelay(from: claim.node, to: me, salt: UInt64(index) + 7)
            guard claim.from + delay <= swarm.now, claim.until.map({ $0 + delay > swarm.now }) ?? true,
                swarm.knowsAlive(claim.node, observer: me)
            else { continue }
            return swarm.ids[claim.node]
        }
        return nil
    }

    func owners(for flist: FlistDigest?) -> [NodeID] {
        let live = swarm.ids.indices.filter { swarm.knowsAlive($0, observer: me) }
        // Those who have just come ask the others, until the others know of them too.
        let isNew = swarm.now - (swarm.nodes[me].startedAt ?? .zero) < swarm.setup.newcomerGrace && live.count > 1
        return live.filter { $0 != me || !isNew }.map { swarm.ids[$0] }
    }

    func isLive(_ node: NodeID) -> Bool {
        swarm.indexOf[node].map { swarm.knowsAlive($0, observer: me) } ?? (swarm.otherSite?.gateways.contains(node) == true)
    }
}
