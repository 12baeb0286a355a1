public import MeshKeys

/// Peers that did wrong. What they have under way runs on: its bytes are checked as all are.
extension FetchPlanner {
    /// The node is not asked for anything until `Limits.shun` is over.
    public mutating func shun(_ node: NodeID, now: Duration, view: some MeshView) -> [FetchAction] {
        loads[node, default: PeerLoad()].offences = 0
        loads[node, default: PeerLoad()].shunnedUntil = now + limits.shun
        leaveLines(of: node)
        return tick(now: now, view: view)
    }

    /// An offence that no chunk of this planner shows; so many as of wrong chunks shun the node.
    public mutating func noteOffence(_ node: NodeID, now: Duration, view: some MeshView) -> [FetchAction] {
        offend(node, now: now)
        return tick(now: now, view: view)
    }

    mutating func offend(_ node: NodeID, now: Duration) {
        loads[node, default: PeerLoad()].offences += 1
        guard loads[node, default: PeerLoad()].offences >= limits.offences else { return }
        loads[node, default: PeerLoad()].offences = 0
        loads[node, default: PeerLoad()].shunnedUntil = now + limits.shun
        leaveLines(of: node)
    }
}
