import ChunkModel
import FetchPlanner
import MeshKeys

/// A mesh that is as the test says.
struct ScriptedMesh: MeshView {
    var holders: [ChunkID: [NodeID]] = [:]
    var claimants: [ChunkID: NodeID] = [:]
    var owners: [NodeID] = []
    var dead: Set<NodeID> = []
    /// Gateways of other sites, nodes that may ask them, and whether it is still being found out what they hold.
    var sites: [ChunkID: [NodeID]] = [:]
    var siteOwners: [NodeID] = []
    var awaits = false
    var seekers: [NodeID] = []
    var isSeeking = false

    func sites(holding chunk: ChunkID) -> [NodeID] { sites[chunk] ?? [] }
    func siteOwners(for flist: FlistDigest?) -> [NodeID] { siteOwners.filter { !dead.contains($0) } }
    func awaitsSites(of flist: FlistDigest?) -> Bool { awaits }
    func holders(of chunk: ChunkID) -> [NodeID] { (holders[chunk] ?? []).filter { !dead.contains($0) } }
    func claimant(of chunk: ChunkID) -> NodeID? { claimants[chunk].flatMap { dead.contains($0) ? nil : $0 } }
    func owners(for flist: FlistDigest?) -> [NodeID] { owners.filter { !dead.contains($0) } }
    func seekers(of flist: FlistDigest) -> Seekers { Seekers(seekers.filter { !dead.contains($0) }) }
    func isSeeking(_ flist: FlistDigest) -> Bool { isSeeking }
    func isLive(_ node: NodeID) -> Bool { !dead.contains(node) }
}

struct Seeded: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8.random(in: 0...255, using: &self) } }
}

func someChunks(_ count: Int, seed: UInt64 = 1) -> [ChunkID] {
    var random = Seeded(seed)
    return (0..<count).map { _ in ChunkID(random.bytes(32))! }
}

func someFlist(seed: UInt64) -> FlistDigest {
    var random = Seeded(seed)
    return FlistDigest(Bytes32(random.bytes(32))!)
}

func someNodes(_ count: Int, seed: UInt64 = 2) -> [NodeID] {
    var random = Seeded(seed)
    return (0..<count).map { _ in NodeID(random.bytes(32))! }
}

extension FetchAction {
    /// Node, mode and tag of a request to a peer.
    var asked: (node: NodeID, chunk: ChunkID, mode: AskMode, priority: FetchPriority, tag: RequestTag)? {
        if case .ask(let node, let chunk, _, let mode, let priority, let tag) = self { (node, chunk, mode, priority, tag) } else { nil }
    }
    var fetched: ChunkID? { if case .fetchUpstream(let id, _, _) = self { id } else { nil } }
    var failure: (chunk: ChunkID, why: FetchFailure)? { if case .fail(let id, let why) = self { (id, why) } else { nil } }
}

/// A planner with its mesh and clock, so that a test says only what happens.
struct Stage {
    var planner: FetchPlanner
    var mesh = ScriptedMesh()
    var now: Duration = .seconds(100)
    let me: NodeID
    let others: [NodeID]
    /// Named by every want of this node.
    var flist: FlistDigest?

    init(others count: Int = 3, places: Int = 4, _ change: (inout FetchPlanner.Limits) -> Void = { _ in }) {
        let nodes = someNodes(count + 1)
        (me, others) = (nodes[0], Array(nodes[1...]))
        var limits = FetchPlanner.Limits()
        change(&limits)
        planner = FetchPlanner(me: nodes[0], limits: limits, upstreamPlaces: places)
        mesh.owners = nodes
    }

    mutating func want(_ id: ChunkID, _ priority: FetchPriority = .prefetch) -> [FetchAction] {
        planner.want(id, flist: flist, priority: priority, now: now, view: mesh) ?? []
    }
    mutating func wantForPeer(_ id: ChunkID, _ priority: FetchPriority = .prefetch) -> (FetchPlanner.PeerWantAnswer, [FetchAction]) {
        planner.wantForPeer(id, flist: nil, priority: priority, now: now, view: mesh)
    }
    mutating func wantToRelay(_ id: ChunkID, to peer: NodeID) -> (FetchPlanner.PeerWantAnswer, [FetchAction]) {
        planner.wantToRelay(id, flist: flist, to: peer, now: now, view: mesh)
    }
    mutating func answer(_ tag: RequestTag?, _ answer: PeerAnswer) -> [FetchAction] {
        tag.map { planner.peerAnswered($0, answer, now: now, view: mesh) } ?? []
    }
    mutating func upstream(_ id: ChunkID, _ answer: UpstreamAnswer) -> [FetchAction] {
        planner.upstreamAnswered(id, answer, now: now, view: mesh)
    }
    mutating func arrived(_ id: ChunkID) -> [FetchAction] { planner.arrived(id, now: now, view: mesh) }
    mutating func abandon(_ id: ChunkID, forPeer: Bool = false, relayed: Bool = false) -> [FetchAction] {
        planner.abandon(id, forPeer: forPeer, relayed: relayed, now: now, view: mesh)
    }
    mutating func tick(after time: Duration = .zero) -> [FetchAction] {
        now += time
        return planner.tick(now: now, view: mesh)
    }
    /// Ticks as often as the planner asks for until something is to be done.
    mutating func untilAction(within time: Duration) -> [FetchAction] {
        let end = now + time
        while let due = planner.nextDeadline(now: now), due <= end {
            now = due
            let actions = planner.tick(now: now, view: mesh)
            if !actions.isEmpty { return actions }
        }
        return []
    }

    /// Chunks whose ranking begins with this node, or with another.
    func chunks(_ count: Int, mine: Bool) -> [ChunkID] {
        Array(someChunks(count * 40 + 100).filter { (ranking($0)[0] == me) == mine }.prefix(count))
    }
    func ranking(_ id: ChunkID) -> [NodeID] { Rendezvous.ranking(of: id, among: mesh.owners) }
}
