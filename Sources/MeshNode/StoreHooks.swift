internal import ChunkModel
internal import ChunkStore
internal import Gossip
internal import GossipTransport
internal import Synchronization

/// What the cache asks of, and tells, the rest of the node.
struct StoreHooks: Sendable {
    let parts: NodeParts

    func isLastCopyAtSite(_ chunk: ChunkID) -> Bool {
        let places = parts.flists.places(of: chunk)
        guard !places.isEmpty else { return false }
        return parts.gossip.read { machine, _ in
            !places.contains { digest, index in
                machine.holders(of: digest, index).contains { $0 != machine.me.id }
            }
        }
    }

    /// Nobody shall come for what was evicted.
    func removed(_ chunks: [ChunkID]) {
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
