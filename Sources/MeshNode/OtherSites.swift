internal import ChunkModel
internal import Gossip
internal import GossipTransport
internal import MeshKeys
internal import Synchronization

/// Which other sites this node may ask for chunks, and of which flists it wants any.
final class OtherSites: Sendable {
    /// How long a chunk waits at most until it is known what other sites hold of its flist, once for each time that the flist is
    /// wanted; then it goes upstream.
    static let patience: Duration = .seconds(1)
    /// An flist of which no chunk was missing for this long is not asked about any more.
    static let memory: Duration = .seconds(30)
    /// Between two words to gossip that the same flists are still wanted.
    static let renewal: Duration = .seconds(10)

    private struct Wanted {
        let first: Duration
        var last: Duration
    }
    private struct State {
        var allowance: SiteAllowance
        /// At most as many as flists are open.
        var wanted: [FlistDigest: Wanted] = [:]
        var hasNews = false
        var renewAt: Duration = .zero
    }
    private let state: Mutex<State>

    init(_ names: [String]) { state = Mutex(State(allowance: Self.allowance(names))) }

    /// From now on; what is under way goes on.
    func allow(_ names: [String]) {
        state.withLock { state in
            state.allowance = Self.allowance(names)
            state.hasNews = true
        }
    }

    private static func allowance(_ names: [String]) -> SiteAllowance { names.contains("*") ? .any : .only(Set(names)) }

    var allowance: SiteAllowance { state.withLock { $0.allowance } }
    var isNone: Bool { allowance == .none }

    /// A chunk of the flist is held by nobody here.
    ///
    /// - Returns: true when that is news, and `due` wants to be called soon.
    func noteWanted(_ flist: FlistDigest, now: Duration) -> Bool {
        state.withLock { state in
            if state.wanted[flist] != nil {
                state.wanted[flist]?.last = now
                return false
            }
            state.wanted = state.wanted.filter { now - $0.value.last < Self.memory }
            guard state.wanted.count < FlistTable.maxOpen else { return false }
            state.wanted[flist] = Wanted(first: now, last: now)
            state.hasNews = true
            return true
        }
    }

    /// It may still be waited for what others hold of it.
    func isFresh(_ flist: FlistDigest, now: Duration) -> Bool {
        state.withLock { state in state.wanted[flist].map { now - $0.first < Self.patience } ?? false }
    }

    /// The flists that gossip shall ask about now, and at whom; `nil` when there is nothing to say.
    func due(now: Duration) -> (flists: [FlistDigest], sites: SiteAllowance)? {
        state.withLock { state in
            guard state.allowance != .none, state.hasNews || now >= state.renewAt else { return nil }
            state.wanted = state.wanted.filter { now - $0.value.last < Self.memory }
            state.hasNews = false
            state.renewAt = now + Self.renewal
            return state.wanted.isEmpty ? nil : (Array(state.wanted.keys), state.allowance)
        }
    }
}

extension SiteView {
    func sites(holding chunk: ChunkID) -> [NodeID] {
        let allowance = others.allowance
        guard allowance != .none else { return [] }
        let places = flists.places(of: chunk)
        var isNew = false
        for (digest, _) in places where others.noteWanted(digest, now: now) { isNew = true }
        if isNew { wake() }
        return gossip.read { machine, _ in
            var out: [NodeID] = []
            for (digest, index) in places {
                for gateway in machine.siteHolders(of: digest, index, at: allowance) where !out.contains(gateway.id) {
                    out.append(gateway.id)
                }
            }
            return out
        }
    }

    func siteOwners(for flist: FlistDigest?) -> [NodeID] {
        guard !others.isNone else { return [] }
        guard let flist else { return [me] }
        let isYoung = flists.age(of: flist, now: now).map { $0 < Self.youth } ?? false
        let key = MeshFacts.flistKey(flist)
        return [me] + liveOthers { facts, profile in profile?.asksSites == true && (facts[key] != nil || isYoung) }
    }

    func awaitsSites(of flist: FlistDigest?) -> Bool {
        guard let flist, others.isFresh(flist, now: now) else { return false }
        let allowance = others.allowance
        return allowance != .none && gossip.read { machine, _ in machine.awaitsSites(of: flist, at: allowance) }
    }

    func isLive(_ node: NodeID) -> Bool {
        gossip.read { machine, _ in
            if let member = machine.members[node] { return member.state.isLive }
            guard let site = machine.otherGateway(node)?.site else { return false }
            return machine.otherSites.contains { $0.name == site && $0.isReachable }
        }
    }
}
