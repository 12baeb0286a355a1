internal import FetchPlanner
internal import MeshKeys
internal import Synchronization

/// Peers that did wrong in other ways than with a chunk's bytes.
extension ChunkFetcher {
    /// Nothing is asked of it for a while, and its state exchanges are refused.
    func shun(_ node: NodeID) { step { state, now, view in state.outbox += state.planner.shun(node, now: now, view: view) } }

    /// Counts an offence as wrong bytes count.
    ///
    /// - Returns: whether the node is shunned from now on.
    func noteOffence(_ node: NodeID) -> Bool {
        step { state, now, view in
            let actions = state.planner.noteOffence(node, now: now, view: view)
            state.outbox += actions
            return state.planner.isShunned(node, now: now)
        }
    }

    func isShunned(_ node: NodeID) -> Bool {
        let now = parts.clock.now
        return state.withLock { $0.planner.isShunned(node, now: now) }
    }
}
