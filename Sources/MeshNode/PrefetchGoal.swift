internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import FetchPlanner
internal import Gossip
internal import GossipTransport
internal import MeshKeys

/// What a prefetch wants to be true, and what of it falls to this node.
struct PrefetchGoal: Sendable {
    let parts: NodeParts
    let flist: OpenFlist
    let scope: PrefetchScope
    let copies: Int
    /// Indices of chunks, when only some are wanted (scope `node`).
    let only: [Int]?
    /// What comes first of what falls to this node.
    var order: ProfileOrder?

    /// Chunks that the goal speaks of.
    var count: Int { only?.count ?? flist.chunks.count }
    /// Progress counts what this node holds, not what the site does.
    var isOfThisNode: Bool { scope == .node }

    /// Chunks looked at under one hold of gossip's lock, which datagrams wait for.
    private static let stretch = 1024

    /// Indices of the chunks that this node is to get now. Looks at every chunk: blocking.
    func mine() -> [Int] {
        switch scope {
        case .node, .all: return (only ?? Array(flist.chunks.indices)).filter { !parts.store.contains(flist.chunks[$0]) }
        case .site: return shareOfSite()
        }
    }

    /// Chunks with fewer copies than wanted go to the nodes that stand first in the chunk's ranking and do not hold it; every node
    /// comes to the same answer.
    private func shareOfSite() -> [Int] {
        let me = parts.identity.id
        let nodes = keepers()
        let absent = flist.chunks.indices.filter { !parts.store.contains(flist.chunks[$0]) }
        return stride(from: 0, to: absent.count, by: Self.stretch).flatMap { start in
            share(of: absent[start..<min(start + Self.stretch, absent.count)], me: me, nodes: nodes)
        }
    }

    private func share(of indices: ArraySlice<Int>, me: NodeID, nodes: [NodeID]) -> [Int] {
        parts.gossip.read { machine, _ in
            indices.filter { index in
                let chunk = flist.chunks[index]
                let holders = machine.holders(of: flist.digest, index).filter { $0 != me }
                guard holders.count < copies else { return false }
                let others = nodes.filter { !holders.contains($0) }
                return Rendezvous.ranking(of: chunk, among: others).prefix(copies - holders.count).contains(me)
            }
        }
    }

    /// Nodes that take their share: for one copy those that can fetch it themselves, so that nothing travels twice over the LAN. A
    /// young flist is expected to reach all nodes of the site: if they counted only once they had heard of it, those that hear of it
    /// first would take all.
    private func keepers() -> [NodeID] {
        let view = parts.view
        if copies == 1 {
            let fetching = view.owners(for: flist.digest)
            if !fetching.isEmpty { return fetching }
        }
        let isYoung = parts.flists.age(of: flist.digest, now: parts.clock.now).map { $0 < SiteView.youth } ?? false
        let knowing = Set(parts.gossip.nodes(knowing: flist.digest).map(\.member.id))
        let apart = parts.gossip.read { machine, _ in Set(machine.members.keys.filter { machine.profile(of: $0)?.keepsApart == true }) }
        return parts.gossip.siteMembers.map(\.id).filter { !apart.contains($0) && (isYoung || knowing.contains($0)) } + [parts.identity.id]
    }

    /// Blocking. How far the site is, in chunks: all of them when every one has the copies that
    /// are wanted; before that, copies made per copies wanted for one chunk.
    func done() -> Int {
        parts.gossip.read { machine, _ in
            let nodes = machine.liveOthers.count { machine.profile(of: $0.id)?.keepsApart != true } + 1
            switch scope {
            case .node: return flist.chunks.count { parts.store.contains($0) }
            case .site: return done(machine.copies(of: flist.digest), wanted: min(copies, nodes))
            case .all: return done(machine.copies(of: flist.digest), wanted: nodes)
            }
        }
    }

    private func done(_ copies: [UInt16]?, wanted: Int) -> Int {
        (copies ?? []).reduce(0) { $0 + min(Int($1), wanted) } / max(1, wanted)
    }
}
