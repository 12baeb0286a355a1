internal import ChunkModel
internal import FetchPlanner
internal import Gossip
internal import GossipTransport
internal import MeshKeys

/// What lets the nodes of a site that are after the same chunks share the work of those that hold them.
extension Prefetcher {
    /// Fewer chunks than this are got without telling anybody.
    static let leastSought = 16

    /// Tells the site that this node is after the goal's chunks, or no longer. A share of the site's copies is nobody else's.
    func seek(_ goal: PrefetchGoal, _ begins: Bool) {
        guard goal.scope != .site, goal.count >= Self.leastSought,
            parts.flists.noteSeeking(goal.flist.digest, all: goal.only == nil, begins, now: parts.clock.now)
        else { return }
        let key = MeshFacts.seekingKey(goal.flist.digest)
        parts.gossip.change { machine, _ in
            if begins { _ = machine.setFact(key, []) } else { machine.removeFact(key) }
        }
    }
}

extension PrefetchGoal {
    /// The order in which `indices` are asked for: those of the profile first, in its order.
    ///
    /// - Returns: with the number of those, which somebody is about to read.
    func inOrder(_ indices: [Int], window: Int) -> (order: [Int], awaited: Int) {
        guard let order else { return (spread(indices, window: window), 0) }
        let (first, rest) = order.split(indices)
        return (first + spread(rest, window: window), first.count)
    }

    /// Where others may be about to ask the same holders, each begins with its own share
    /// of every stretch, so that the chunks that leave a holder at one time are different ones.
    private func spread(_ indices: [Int], window: Int) -> [Int] {
        let isShared = parts.gossip.read { machine, _ in
            let others = machine.publishers(of: flist.digest).filter { $0 != machine.me.id }
            return others.contains { !machine.isComplete($0, flist.digest) }
                && others.contains { machine.bitmap(of: $0, flist.digest)?.isEmpty == false }
        }
        guard isShared else { return indices }
        return Rendezvous.ownFirst(indices.map { flist.chunks[$0] }, parts.identity.id, window: window).map { indices[$0] }
    }
}
