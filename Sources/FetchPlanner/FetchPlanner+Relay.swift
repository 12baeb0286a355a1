public import ChunkModel
public import MeshKeys

/// Handing chunks on from node to node where few hold what many of a site are after: each copy leaves a holder once, and those that
/// got it serve the rest.
///
/// All who are after a chunk rank themselves for it as owners do (`Rendezvous`). As many as there are holders, from the top of the
/// ranking on, go to a holder; each further one asks a node above it to send the chunk as soon as it has it, `relayFanOut` of them the
/// same node. This needs no news of who has got what meanwhile, the order of the ranking is another for each chunk, and so the work
/// is spread over all.
///
/// Nobody waits for himself: a node is asked to hand a chunk on only by one that ranks lower, whatever each believes of the mesh, and
/// takes nobody's word for its own place. Waiting at an owner (`AskMode.fetch`) goes by another order, that of time; so a node at
/// which somebody waits as at an owner does not wait for another to hand the chunk on, and any chain of waiting nodes is some steps
/// up the ranking and then some steps from owner to owner.
extension FetchPlanner {
    /// The node that is to hand the chunk on to this one; `nil` when it comes straight from a holder, or nobody holds it.
    mutating func relay(of id: ChunkID, want: Want, holders: [NodeID], now: Duration, view: some MeshView) -> NodeID? {
        guard want.priority == .prefetch, want.relayWaiters == want.peerWaiters, want.isWaitedFor, let flist = want.flist,
            !holders.isEmpty
        else { return nil }
        let seekers = seekers(of: flist, view: view)
        guard seekers.count > 0 else { return nil }
        let key = id.prefix64
        var usable = 0
        var served: [UInt64] = []
        for holder in holders where state(of: holder, for: want, now: now) != .unusable {
            usable += 1
            if usable >= limits.plentyOfHolders, usable * limits.seekersPerHolder > seekers.count { return nil }
        }
        guard usable > 0 else { return nil }
        for holder in holders { served.append(Rendezvous.weight(key, holder)) }
        served.sort()
        // Two nodes never have the same weight in practice; if they had, one of them would be passed over.
        var above = seekers.above(Rendezvous.weight(key, me), for: key).filter { !Self.contains(served, $0.weight) }
        while above.count >= usable {
            let rank = (above.count - usable) / max(1, limits.relayFanOut)
            guard let place = Self.select(rank, of: &above) else { return nil }
            if state(of: place.node, for: want, now: now) == .usable { return place.node }
            above.remove(at: rank)
        }
        return nil
    }

    private static func contains(_ sorted: [UInt64], _ value: UInt64) -> Bool {
        var (low, high) = (0, sorted.count)
        while low < high {
            let middle = (low + high) / 2
            if sorted[middle] < value { low = middle + 1 } else { high = middle }
        }
        return low < sorted.count && sorted[low] == value
    }

    /// The place that has `rank` others above it (Hoare's selection: the time grows with their number only).
    private static func select(_ rank: Int, of places: inout [Seekers.Place]) -> Seekers.Place? {
        guard places.indices.contains(rank) else { return nil }
        var (low, high) = (0, places.count - 1)
        while low < high {
            let pivot = places[(low + high) / 2].weight
            var (i, j) = (low, high)
            while i <= j {
                while places[i].weight > pivot { i += 1 }
                while places[j].weight < pivot { j -= 1 }
                guard i <= j else { break }
                places.swapAt(i, j)
                (i, j) = (i + 1, j - 1)
            }
            if rank <= j { high = j } else if rank >= i { low = i } else { break }
        }
        return places[rank]
    }

    private mutating func seekers(of flist: FlistDigest, view: some MeshView) -> Seekers {
        if let known = passSeekers[flist] { return known }
        var found = view.seekers(of: flist)
        if !notSeeking.isEmpty { found = found.without { notSeeking[Declined(node: $0, flist: flist)] != nil } }
        passSeekers[flist] = found
        return found
    }

    /// A peer asks this node to hand on a chunk that is not in the store.
    ///
    /// It is taken on for a chunk that is wanted here, or will be; never by a node that ranks lower than who asks.
    public mutating func wantToRelay(
        _ id: ChunkID, flist: FlistDigest?, to peer: NodeID, now: Duration, view: some MeshView
    ) -> (answer: PeerWantAnswer, actions: [FetchAction]) {
        guard Rendezvous.weight(id.prefix64, peer) < Rendezvous.weight(id.prefix64, me) else { return (.notOwner, []) }
        if let known = wants[id] {
            guard known.relayWaiters < limits.relayWaiters else { return (.busy, []) }
        } else {
            guard let flist, view.isSeeking(flist) else { return (.declined, []) }
            guard peerOnlyWants < limits.peerWants else { return (.busy, []) }
            peerOnlyWants += 1
        }
        enter(id, flist: flist, priority: .prefetch) { want in
            want.peerWaiters += 1
            want.relayWaiters += 1
        }
        return (.joined, pump(now: now, view: view))
    }

    /// - Returns: whether `node` will not hand the chunk on, so that another source is to be looked for; other answers mean the same as those
    ///   of a holder.
    mutating func notHandedOn(_ answer: PeerAnswer, by node: NodeID, _ id: ChunkID, now: Duration) -> Bool {
        switch answer {
        case .pending, .received, .corrupt, .failed: return false
        case .missing, .busy, .declined, .notOwner, .upstreamFailed:
            if answer == .declined {
                notSeeking[Declined(node: node, flist: wants[id]?.flist)] = now + limits.notSeekingPause
                passSeekers = [:]
            }
            passOver(node, for: id, until: now + limits.relayPassOver)
            makeReady(id)
            return true
        }
    }

    mutating func noteArrival(now: Duration) {
        arrivalInterval = (arrivalInterval * 15 + min(now - lastArrival, .seconds(5))) / 16
        lastArrival = now
    }

    /// While nothing arrives, the oldest wants that wait to be handed a chunk on go to its holders: one slow node must not hold up
    /// those below it.
    mutating func leaveSlowRelays(now: Duration, view: some MeshView) -> [FetchAction] {
        guard relays > 0, now - lastArrival >= max(limits.relayPatience, arrivalInterval * limits.relayIntervals) else { return [] }
        lastArrival = now
        var waiting: [(age: UInt64, id: ChunkID, node: NodeID, tag: RequestTag)] = []
        for (id, want) in wants where want.attempts.count == 1 {
            guard case .peer(let node, .relay, let tag, _)? = want.attempts.first else { continue }
            waiting.append((want.age, id, node, tag))
        }
        var actions: [FetchAction] = []
        var left = limits.transfersPerPeer
        for (_, id, node, tag) in waiting.sorted(by: { $0.age < $1.age }) where left > 0 {
            guard let want = wants[id],
                let holder = sources(of: id, want: want, foreground: false, among: view.holders(of: id), now: now).best
            else { continue }
            left -= 1
            actions += drop(tag, of: id, cancel: true)
            passOver(node, for: id, until: now + limits.passOver)
            actions += ask(holder, id, mode: .ifHeld, now: now)
        }
        return actions
    }
}
