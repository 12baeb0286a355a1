internal import ChunkModel
internal import ChunkStore
internal import FetchPlanner
internal import Gossip
internal import GossipTransport
internal import MeshKeys
internal import Synchronization

/// What the cache asks of, and tells, the rest of the node.
struct StoreHooks: Sendable {
    let parts: NodeParts

    /// From gossip, at once. A chunk of no flist that is known here is nobody's to miss.
    func custody(of chunk: ChunkID, isLeaving: Bool) -> Custody {
        let places = parts.flists.places(of: chunk)
        guard !places.isEmpty else { return .redundant }
        let copies = places.reduce(1) { max($0, parts.goals.copies(of: $1.digest)) }
        let (me, others) = parts.gossip.read { machine, _ in
            var others: Set<NodeID> = []
            for (digest, index) in places { others.formUnion(machine.holders(of: digest, index)) }
            others.remove(machine.me.id)
            return (machine.me.id, others)
        }
        let rank = Rendezvous.ranking(of: chunk, among: Array(others) + [me]).firstIndex(of: me) ?? 0
        return Custody.judge(rank: rank, others: others.count, copies: copies, isLeaving: isLeaving)
    }

    /// Nobody shall come for what was evicted, nor count on what is about to be.
    func announce(_ chunks: [ChunkID]) {
        for chunk in chunks { parts.announceHolding(of: chunk) }
    }
}

/// The cache is opened before what its hooks speak to.
final class LateHooks: Sendable {
    private let hooks = Mutex<StoreHooks?>(nil)
    var value: StoreHooks? {
        get { hooks.withLock { $0 } }
        set { hooks.withLock { $0 = newValue } }
    }
}
