internal import ChunkModel
internal import FetchPlanner
internal import Gossip
internal import GossipTransport
internal import MeshKeys

/// The planner's view of the mesh, made of gossip and of the flists that this node knows.
struct SiteView: MeshView {
    /// How long nodes that have not announced an flist still count among its owners: where all machines are told of an image at
    /// the same moment, the owners must not depend on whose announcement came first.
    static let youth: Duration = .seconds(3)
    /// A node that has just started does not take itself for an owner until it has met the others, where there may be any, and has
    /// heard what they have and are fetching: after a power cut each would begin to fetch for itself what the others hold.
    static let newcomerGrace: Duration = .seconds(1)

    /// How long after the beginning of a prefetch every node that lacks chunks of the flist counts as one that is after them: where all
    /// begin at the same moment, nobody has heard of the others yet. Who is not says so when he is asked.
    static let seekingYouth: Duration = .seconds(1)

    let gossip: GossipTransport
    let flists: FlistTable
    let upstream: UpstreamState
    let others: OtherSites
    let me: NodeID
    let now: Duration
    /// This node has just come to itself after a standstill.
    let isFresh: Bool
    /// It fetches for its own users alone, and leaves that to others too where there are any.
    let keepsApart: Bool
    /// What is to be found out of other sites is due.
    let wake: @Sendable () -> Void

    func holders(of chunk: ChunkID) -> [NodeID] {
        let places = flists.places(of: chunk)
        guard !places.isEmpty else { return [] }
        return gossip.read { machine, _ in
            var out: [NodeID] = []
            for (digest, index) in places {
                for node in machine.holders(of: digest, index) where node != me && !out.contains(node) { out.append(node) }
            }
            return out
        }
    }

    func claimant(of chunk: ChunkID) -> NodeID? {
        let places = flists.places(of: chunk)
        return gossip.read { machine, now in
            for (digest, index) in places {
                if let node = machine.claimant(of: digest, index, now: now), machine.members[node]?.state.isLive == true { return node }
            }
            return nil
        }
    }

    func owners(for flist: FlistDigest?) -> [NodeID] {
        let isNewcomer = isFresh || now < Self.newcomerGrace && (gossip.liveCount > 1 || gossip.looksForOthers)
        let mine = upstream.reaches(flist, now: now) && !isNewcomer ? [me] : []
        guard let flist else { return mine }
        let others = otherOwners(for: flist)
        return keepsApart && !others.isEmpty ? others : mine + others
    }

    private func otherOwners(for flist: FlistDigest) -> [NodeID] {
        let isYoung = flists.age(of: flist, now: now).map { $0 < Self.youth } ?? false
        let key = MeshFacts.flistKey(flist)
        return liveOthers { facts, profile in
            // A node that has not spoken of itself yet probably reaches upstream; the choice must not depend on the moment.
            guard profile?.reachesUpstream ?? isYoung else { return false }
            guard let value = facts[key], let fact = FlistFact(value) else { return isYoung }
            return fact.fetches
        }
    }

    /// The live nodes of the site but this one that `isChosen` picks by their facts and by what they say of themselves.
    func liveOthers(where isChosen: ([FactKey: [UInt8]], NodeProfile?) -> Bool) -> [NodeID] {
        gossip.read { machine, _ in
            machine.liveOthers.map(\.id).filter { isChosen(machine.facts(of: $0), machine.profile(of: $0)) }
        }
    }

    func seekers(of flist: FlistDigest) -> Seekers {
        let key = MeshFacts.seekingKey(flist)
        let isYoung = flists.seekingAge(of: flist, now: now).map { $0 < Self.seekingYouth } ?? false
        let nodes = gossip.read { machine, _ -> [NodeID] in
            if isYoung { return machine.publishers(of: flist).filter { $0 != machine.me.id && !machine.isComplete($0, flist) } }
            return machine.nodes(withFact: key).compactMap { node, _ in node != machine.me.id ? node : nil }
        }
        return Seekers(nodes)
    }

    func isSeeking(_ flist: FlistDigest) -> Bool { flists.isSeekingAll(of: flist) }
}
