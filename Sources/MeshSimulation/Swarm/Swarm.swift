internal import ChunkModel
internal import FetchPlanner
internal import Gossip
internal import MeshKeys

/// A site of nodes, each with the real planner, under virtual time: one shaped uplink, a link per node, and views of the mesh
/// that lag behind by the time that gossip takes.
final class Swarm {
    struct Setup {
        var nodes = 8
        var chunks = 128
        var seed: UInt64 = 1
        var chunkBytes = 512.0 * 1024
        var uplinkBytesPerSecond = 20e6 / 8
        /// Of each node's port, both ways.
        var lanBytesPerSecond = 1e9 / 8
        var upstreamLatency: Duration = .milliseconds(20)
        var lanLatency: Duration = .microseconds(300)
        /// How long news of chunks, claims and joins takes from one node to another: between these, different for each.
        var gossip: (least: Duration, most: Duration) = (.milliseconds(50), .milliseconds(500))
        var deathKnownAfter: Duration = .seconds(6)
        var silenceNoticedAfter: Duration = .seconds(2)
        /// Requests to upstream that the site makes at one time, shared out among the live nodes, and what each has at least.
        var sitePlaces = 8
        /// A node takes itself for an owner only when it has been there for this long, unless it is alone.
        var newcomerGrace: Duration = .seconds(1)
        var leastPlaces = 1
        /// Nodes that hold everything from the beginning, counted from the first.
        var seeders = 0
        /// As in `SiteView`.
        var seekingYouth: Duration = .seconds(1)
        /// From being told of a chunk's last byte until it is verified and stored.
        var verifyTime: Duration = .milliseconds(1)
        var limits = FetchPlanner.Limits()
        /// Wants that a prefetch has at one time.
        var window = 256
        enum Order { case flist, shuffled }
        var order = Order.flist
    }

    enum Death { case reset, silent }

    let setup: Setup
    let chunks: [ChunkID]
    let ids: [NodeID]
    let indexOf: [NodeID: Int]
    let chunkIndex: [ChunkID: Int]
    var clock = SwarmClock()
    let uplink: SwarmUplink
    var nodes: [SwarmNode] = []
    /// For each chunk: who holds it, in the order of time.
    var holdings: [SwarmHoldings]
    let flist: FlistDigest
    /// Those that want everything, from when until when.
    private(set) var seeking: [(node: Int, since: Duration, until: Duration?)] = []
    private var seekingChanged: Duration = .seconds(-60)
    private var knownSeekers: Seekers?
    private var knownPublishers: Seekers?
    /// For each chunk: who has begun to fetch it, from when until when.
    var claims: [[(node: Int, from: Duration, until: Duration?)]]
    var hubDown: ClosedRange<Duration>?
    /// One that may be asked for chunks.
    var otherSite: SwarmSite?
    /// Nodes below the number cannot talk to the others.
    var partition: (below: Int, during: ClosedRange<Duration>)?
    var upstreamBegun = 0
    private let leastNews: Int64
    /// 1/1024 of what lies between the shortest and the longest way of news.
    private let spreadOfNews: Int64
    private var onUplink: [Int: (node: Int, chunk: Int)] = [:]

    init(_ setup: Setup) {
        self.setup = setup
        leastNews = Self.nanoseconds(setup.gossip.least)
        spreadOfNews = (Self.nanoseconds(setup.gossip.most) - leastNews) / 1024
        var random = SplitMix64(seed: setup.seed)
        func bytes() -> [UInt8] { (0..<32).map { _ in UInt8.random(in: 0...255, using: &random) } }
        chunks = (0..<setup.chunks).map { _ in ChunkID(bytes())! }
        flist = FlistDigest(Bytes32(bytes())!)
        ids = (0..<setup.nodes).map { _ in NodeID(bytes())! }
        indexOf = Dictionary(uniqueKeysWithValues: ids.enumerated().map { ($1, $0) })
        chunkIndex = Dictionary(uniqueKeysWithValues: chunks.enumerated().map { ($1, $0) })
        uplink = SwarmUplink(bytesPerSecond: setup.uplinkBytesPerSecond)
        holdings = Array(repeating: SwarmHoldings(), count: setup.chunks)
        claims = Array(repeating: [], count: setup.chunks)
        nodes = (0..<setup.nodes).map { SwarmNode(index: $0, swarm: self, random: SplitMix64(seed: setup.seed &* 1000 &+ UInt64($0))) }
        for node in nodes.prefix(setup.seeders) { node.fill() }
    }

    static func nanoseconds(_ time: Duration) -> Int64 {
        time.components.seconds * 1_000_000_000 + time.components.attoseconds / 1_000_000_000
    }

    var now: Duration { clock.now }
    var idealSeconds: Double { Double(setup.chunks) * setup.chunkBytes / setup.uplinkBytesPerSecond }
    /// Bytes pulled from upstream, in payloads.
    var egress: Double { uplink.bytes / (Double(setup.chunks) * setup.chunkBytes) }
    var seconds: Double { (nodes.compactMap(\.completedAt).max() ?? .zero) / .seconds(1) }
    var allComplete: Bool { nodes.allSatisfy { $0.diedAt != nil || $0.completedAt != nil } }

    func at(_ time: Duration, _ action: @escaping () -> Void) { clock.schedule(at: time, action) }
    func after(_ time: Duration, _ action: @escaping () -> Void) { clock.schedule(at: clock.now + time, action) }

    /// Runs until all live nodes hold everything, or `limit` is over.
    func run(limit: Duration = .seconds(300)) {
        while !allComplete || clock.now < quietFrom, clock.now < limit, let action = clock.next() { action() }
        uplink.advance(to: clock.now)
    }
    /// Goes on at least to this time, even when all is complete.
    var quietFrom: Duration = .zero

    func start(_ index: Int, at time: Duration = .zero, wanting: Range<Int>? = nil) {
        at(time) { self.nodes[index].start(self.chunkOrder(index, wanting ?? 0..<self.setup.chunks)) }
    }
    func startAll() { for index in nodes.indices { start(index) } }

    private func chunkOrder(_ index: Int, _ range: Range<Int>) -> [Int] {
        var random = SplitMix64(seed: setup.seed &+ UInt64(index) &* 77)
        if setup.seeders > 0 {
            return Rendezvous.ownFirst(range.map { chunks[$0] }, ids[index], window: setup.window).map { range.lowerBound + $0 }
        }
        return setup.order == .flist ? Array(range) : Array(range).shuffled(using: &random)
    }

    func kill(_ index: Int, _ death: Death, at time: Duration) {
        at(time) {
            let node = self.nodes[index]
            (node.diedAt, node.death) = (self.now, death)
            (self.anyDead, self.knownSeekers, self.knownPublishers) = (true, nil, nil)
            for (key, transfer) in self.onUplink where transfer.node == index { self.uplink.stop(key, now: self.now) }
            self.onUplink = self.onUplink.filter { $0.value.node != index }
            self.planUplink()
            for other in self.nodes where other.index != index { other.peerDied(index, death) }
            self.after(self.setup.deathKnownAfter) { self.nodes.forEach { $0.meshChanged() } }
        }
    }

    // MARK: Seeking

    func noteSeeking(_ node: Int, _ begins: Bool) {
        if begins {
            seeking.append((node, now, nil))
        } else if let place = seeking.firstIndex(where: { $0.node == node && $0.until == nil }) {
            seeking[place].until = now
        }
        (seekingChanged, knownSeekers, knownPublishers) = (now, nil, nil)
        allKnownFrom = max(allKnownFrom, now + setup.gossip.most)
    }

    func seekers(observer: Int) -> Seekers {
        if let knownSeekers { return knownSeekers }
        if let since = nodes[observer].seekingSince, now - since < setup.seekingYouth {
            if let knownPublishers { return knownPublishers }
            let known = nodes.indices.filter { nodes[$0].completedAt == nil && $0 >= setup.seeders && knowsAlive($0, observer: observer) }
            let all = Seekers(known.map { ids[$0] })
            if !isTroubled { knownPublishers = all }
            return all
        }
        let isOld = seekingChanged + setup.gossip.most <= now
        let some = seeking.filter { entry in
            let delay = entry.node == observer ? .zero : newsDelay(from: entry.node, to: observer, salt: 3)
            return entry.since + delay <= now && entry.until.map { $0 + delay > now } ?? true && knowsAlive(entry.node, observer: observer)
        }
        let known = Seekers(some.map { ids[$0.node] })
        // All know the same.
        if isOld, !isTroubled { knownSeekers = known }
        return known
    }

    private var anyDead = false
    /// Whether nodes may differ in whom they believe to be alive: some come or go while others are at work.
    var isTroubled: Bool { anyDead || partition != nil || now < allKnownFrom }
    private var allKnownFrom: Duration = .zero

    // MARK: What one node knows

    func reachable(_ a: Int, _ b: Int) -> Bool {
        guard let partition, partition.during.contains(now) else { return true }
        return (a < partition.below) == (b < partition.below)
    }

    func newsDelay(from: Int, to: Int, salt: UInt64) -> Duration {
        let hash = SplitMix64.mix(setup.seed &+ UInt64(from) &* 0x1_0001 &+ UInt64(to) &* 0x101_0000_0001 &+ salt &* 0x9e37_79b9)
        return .nanoseconds(leastNews + spreadOfNews * Int64(hash & 1023))
    }

    func knowsAlive(_ other: Int, observer: Int) -> Bool {
        let node = nodes[other]
        guard let joined = node.startedAt else { return false }
        if other != observer, joined + setup.gossip.most > now, joined + newsDelay(from: other, to: observer, salt: 0) > now {
            return false
        }
        if let died = node.diedAt, died + setup.deathKnownAfter <= now { return false }
        if let partition, partition.during.contains(now), now - partition.during.lowerBound > setup.deathKnownAfter {
            return reachable(other, observer)
        }
        return true
    }

    // MARK: Upstream

    var hubIsDown: Bool { hubDown?.contains(now) ?? false }

    func fetchUpstream(_ chunk: Int, for node: SwarmNode) {
        claims[chunk].append((node.index, now, nil))
        after(setup.upstreamLatency) {
            guard node.diedAt == nil else { return }
            guard !self.hubIsDown else {
                return self.after(.seconds(1)) { self.endUpstream(chunk, node: node, failed: true) }
            }
            self.upstreamBegun += 1
            self.onUplink[self.uplink.begin(size: self.setup.chunkBytes, now: self.now)] = (node.index, chunk)
            self.planUplink()
        }
    }

    /// The hub goes down: all transfers under way stall, and are given up two seconds later.
    func takeHubDown(_ during: ClosedRange<Duration>) {
        hubDown = during
        at(during.lowerBound) {
            let stalled = self.onUplink
            self.onUplink = [:]
            for (key, transfer) in stalled {
                self.uplink.stop(key, now: self.now)
                self.after(.seconds(2)) { self.endUpstream(transfer.chunk, node: self.nodes[transfer.node], failed: true) }
            }
        }
    }

    private func planUplink() {
        let version = uplink.version
        guard let end = uplink.nextEnd(now: now) else { return }
        at(end.at) {
            guard self.uplink.version == version, let transfer = self.onUplink.removeValue(forKey: end.key) else { return }
            self.uplink.stop(end.key, now: self.now)
            self.planUplink()
            self.endUpstream(transfer.chunk, node: self.nodes[transfer.node], failed: false)
        }
    }

    private func endUpstream(_ chunk: Int, node: SwarmNode, failed: Bool) {
        for index in claims[chunk].indices where claims[chunk][index].node == node.index && claims[chunk][index].until == nil {
            claims[chunk][index].until = now
        }
        guard node.diedAt == nil else { return }
        if failed { node.upstreamFailed(chunk) } else { node.store(chunk, fromPeer: false) }
    }
}
