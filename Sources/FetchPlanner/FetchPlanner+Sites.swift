internal import ChunkModel
internal import MeshKeys

/// Chunks of other sites: what nobody here holds, and one of them says it has, is asked of its gateways by the chunk's owner before it
/// goes upstream, so that it crosses the line between the sites once.
extension FetchPlanner {
    /// - Returns: `nil` when no other site is to be asked: none has it or may be asked, all failed, or upstream is the nearer.
    mutating func findAtSites(_ id: ChunkID, now: Duration, view: some MeshView) -> [FetchAction]? {
        guard let want = wants[id], want.siteFailures < limits.siteFailures else { return nil }
        let gateways = view.sites(holding: id)
        guard !gateways.isEmpty else { return nil }
        var best: (wait: Duration, node: NodeID)?
        var full: [NodeID] = []
        // In the order of the view, which puts the nearest first: a later one must be quicker, not just as quick.
        for node in gateways.prefix(limits.holdersConsidered) {
            switch state(of: node, for: want, now: now) {
            case .unusable: continue
            case .busy: if full.count < limits.linesPerWant { full.append(node) }
            case .usable:
                loads[node, default: PeerLoad()].isOfOtherSite = true
                let load = loads[node] ?? PeerLoad()
                if load.transfers >= places(want.priority, at: node) {
                    if full.count < limits.linesPerWant { full.append(node) }
                } else if best.map({ load.expectedWait < $0.wait }) ?? true {
                    best = (load.expectedWait, node)
                }
            }
        }
        guard let first = best?.node ?? full.first else { return nil }
        if want.localWaiters > 0 {
            guard let owner = bestOwner(of: id, want: want, among: view.siteOwners(for: want.flist), isForSites: true, now: now) else {
                return nil
            }
            if owner != me {
                if state(of: owner, for: want, now: now) == .busy { return park(id, at: [owner], mode: .fetch) }
                return askToFetch(owner, id, now: now)
            }
        }
        if want.ownUpstream == .untried, isUpstreamNearer(than: first, now: now, owners: view.siteOwners(for: want.flist).count),
            view.owners(for: want.flist).contains(me)
        {
            return nil
        }
        if let best { return ask(best.node, id, mode: .site, now: now) }
        return park(id, at: full, mode: .site)
    }

    /// Lets the want rest while it is still being found out what other sites hold.
    mutating func awaitSites(_ id: ChunkID, now: Duration, view: some MeshView) -> Bool {
        guard let want = wants[id], want.isIdle, view.awaitsSites(of: want.flist) else { return false }
        rest(id, until: now + limits.sitesPause)
        return true
    }

    /// Chunks asked of all other sites and not yet here: they share the line.
    var siteTransfers: Int { loads.values.reduce(0) { $1.isOfOtherSite ? $0 + $1.transfers : $0 } }

    /// The gateway has not sent the chunk in time: it rests, and counts as that slow.
    mutating func tooSlow(_ gateway: NodeID, since: Duration, now: Duration) {
        var load = loads[gateway, default: PeerLoad()]
        load.noteReceived(transferSince: since, sharing: siteTransfers, now: now)
        load.restUntil = max(load.restUntil, now + limits.costMemory)
        loads[gateway] = load
        leaveLines(of: gateway)
    }

    /// By what both took for a chunk lately. What was not measured is not nearer: the site comes first.
    ///
    /// - Parameter owners: nodes here that fetch, all of which would turn to upstream: it is reckoned that much slower than it is for one.
    private func isUpstreamNearer(than gateway: NodeID, now: Duration, owners: Int) -> Bool {
        guard let upstream = costs.upstream(at: now, memory: limits.costMemory), let load = loads[gateway],
            let measuredAt = load.measuredAt, now - measuredAt < limits.costMemory
        else { return false }
        return upstream * (5 * max(1, owners)) < load.chunkTime * 4
    }
}

/// What upstream took for a chunk lately.
struct UpstreamCost: Sendable {
    private var began: [ChunkID: Duration] = [:]
    private var time: Duration?
    private var measuredAt: Duration = .zero

    mutating func begin(_ id: ChunkID, now: Duration) { began[id] = now }

    /// - Parameter active: requests under way, this one included: they share the line.
    mutating func end(_ id: ChunkID, arrived: Bool, active: Int, now: Duration) {
        guard let start = began.removeValue(forKey: id), arrived else { return }
        let one = max(.zero, now - start) / max(1, active)
        time = time.map { ($0 * 7 + one) / 8 } ?? one
        measuredAt = now
    }

    func upstream(at now: Duration, memory: Duration) -> Duration? { now - measuredAt < memory ? time : nil }
}
