internal import ChunkModel
internal import MeshKeys

/// Finding a source for the wants that have none.
extension FetchPlanner {
    /// Gives work to every free place, to the most urgent and oldest wants first.
    ///
    /// A want is looked at when it is new, when an attempt has ended, and when a peer in whose line it stands has a free place:
    /// the work of a pass depends on what has changed, not on how many wait.
    mutating func pump(now: Duration, view: some MeshView) -> [FetchAction] {
        var actions: [FetchAction] = []
        var budget = limits.wantsPerPass
        passSeekers = [:]
        while budget > 0 {
            if let entry = ready.popFirst() {
                guard isValid(entry) else { continue }
                budget -= 1
                actions += findSource(entry.id, now: now, view: view)
            } else if let node = freed.last {
                if let id = nextInLine(of: node, now: now) {
                    budget -= 1
                    actions += findSource(id, now: now, view: view)
                } else {
                    freed.removeLast()
                }
            } else if let priority = upstreamLine.firstPriority, mayBeginUpstream(priority), let entry = upstreamLine.popFirst() {
                guard isValid(entry) else { continue }
                budget -= 1
                actions += beginUpstream(entry.id, now: now, view: view)
            } else {
                break
            }
        }
        return actions
    }

    /// The first want in the lines of `node` for which it has a place.
    private mutating func nextInLine(of node: NodeID, now: Duration) -> ChunkID? {
        guard loads[node]?.state(at: now, patience: limits.busyPatience) == .usable else { return nil }
        while let entry = loads[node]?.transferLine.first {
            if isValid(entry) {
                guard let load = loads[node], let priority = load.transferLine.firstPriority, load.transfers < places(priority, at: node)
                else {
                    break
                }
                loads[node]?.transferLine.popFirst()
                return entry.id
            }
            loads[node]?.transferLine.popFirst()
        }
        while let entry = loads[node]?.waitLine.first {
            if isValid(entry) {
                guard let load = loads[node], load.waits < limits.waitsPerPeer else { break }
                loads[node]?.waitLine.popFirst()
                return entry.id
            }
            loads[node]?.waitLine.popFirst()
        }
        return nil
    }

    private mutating func findSource(_ id: ChunkID, now: Duration, view: some MeshView) -> [FetchAction] {
        wants[id]?.standing = .busy
        wants[id]?.ticket = 0
        wants[id]?.lookedAt = now
        guard let want = wants[id] else { return [] }
        let known = view.holders(of: id)
        if let node = relay(of: id, want: want, holders: known, now: now, view: view) { return askToRelay(node, id, now: now) }
        let holders = sources(of: id, want: want, foreground: want.priority == .foreground, among: known, now: now)
        if let best = holders.best { return ask(best, id, mode: .ifHeld, now: now) }
        if !holders.full.isEmpty { return park(id, at: holders.full, mode: .ifHeld) }

        if let claimant = view.claimant(of: id) {
            switch state(of: claimant, for: want, now: now) {
            case .usable: return askToFetch(claimant, id, now: now)
            case .busy: return park(id, at: [claimant], mode: .fetch)
            case .unusable: break
            }
        }
        if let actions = findAtSites(id, now: now, view: view) { return actions }
        if awaitSites(id, now: now, view: view) { return [] }
        if case .closed(let reason) = lineGate, want.priority == .foreground {
            wants[id]?.lastFailure = reason
            return give(up: id, want: wants[id] ?? want)
        }
        let owners = view.owners(for: want.flist)
        let mayFetch = want.ownUpstream == .untried && owners.contains(me)
        if want.localWaiters == 0 {
            // Only peers wait: they took us for the owner, so the chunk comes from upstream or they are told to look elsewhere.
            return mayFetch ? queueUpstream(id) : give(up: id, want: want)
        }
        if want.missingAnswers >= limits.missingAnswers { return mayFetch ? queueUpstream(id) : give(up: id, want: want) }
        guard want.upstreamFailures < limits.upstreamsPerRound else { return roundOver(id, now: now) }
        guard let owner = bestOwner(of: id, want: want, among: owners, now: now) else { return roundOver(id, now: now) }
        if owner == me { return queueUpstream(id) }
        if state(of: owner, for: want, now: now) == .busy { return park(id, at: [owner], mode: .fetch) }
        return askToFetch(owner, id, now: now)
    }

    private mutating func askToRelay(_ node: NodeID, _ id: ChunkID, now: Duration) -> [FetchAction] {
        guard (loads[node]?.waits ?? 0) < limits.waitsPerPeer else { return park(id, at: [node], mode: .relay) }
        return ask(node, id, mode: .relay, now: now)
    }

    mutating func askToFetch(_ node: NodeID, _ id: ChunkID, now: Duration) -> [FetchAction] {
        guard (loads[node]?.waits ?? 0) < limits.waitsPerPeer else { return park(id, at: [node], mode: .fetch) }
        return ask(node, id, mode: .fetch, now: now)
    }

    /// Puts the want in the lines of nodes that have no place for it now. It leaves all when one has.
    mutating func park(_ id: ChunkID, at nodes: [NodeID], mode: AskMode) -> [FetchAction] {
        guard let want = wants[id] else { return [] }
        wants[id]?.standing = .parked
        let ticket = takeTicket(id)
        for node in nodes {
            switch mode {
            case .ifHeld, .site: loads[node, default: PeerLoad()].transferLine.append(id, ticket: ticket, priority: want.priority)
            case .fetch, .relay: loads[node, default: PeerLoad()].waitLine.append(id, ticket: ticket, priority: want.priority)
            }
        }
        return []
    }

    private mutating func queueUpstream(_ id: ChunkID) -> [FetchAction] {
        guard let want = wants[id] else { return [] }
        wants[id]?.attempts.append(.upstreamQueue)
        upstreamLine.append(id, ticket: takeTicket(id), priority: want.priority)
        return []
    }

    /// The turn of `id` in the line for upstream has come.
    private mutating func beginUpstream(_ id: ChunkID, now: Duration, view: some MeshView) -> [FetchAction] {
        wants[id]?.attempts.removeAll { if case .upstreamQueue = $0 { true } else { false } }
        wants[id]?.ticket = 0
        guard let want = wants[id] else { return [] }
        // Somebody may have got it, or begun to, while it stood in line.
        let holders = sources(of: id, want: want, foreground: true, among: view.holders(of: id), now: now)
        let claimed = view.claimant(of: id).map { state(of: $0, for: want, now: now) != .unusable } ?? false
        if holders.best != nil || !holders.full.isEmpty || claimed { return findSource(id, now: now, view: view) }
        if let actions = findAtSites(id, now: now, view: view) { return actions }
        if awaitSites(id, now: now, view: view) { return [] }
        // Or another has turned out to be its owner: fetched here and there, it would travel twice.
        if want.localWaiters > 0, want.missingAnswers < limits.missingAnswers, want.upstreamFailures < limits.upstreamsPerRound,
            let owner = bestOwner(of: id, want: want, among: view.owners(for: want.flist), now: now), owner != me
        {
            if state(of: owner, for: want, now: now) == .busy { return park(id, at: [owner], mode: .fetch) }
            return askToFetch(owner, id, now: now)
        }
        wants[id]?.attempts.append(.upstream)
        upstreamActive.insert(id)
        costs.begin(id, now: now)
        return [.fetchUpstream(id, flist: want.flist, priority: want.priority)]
    }

    /// All sources have failed once.
    private mutating func roundOver(_ id: ChunkID, now: Duration) -> [FetchAction] {
        guard var want = wants[id] else { return [] }
        want.rounds += 1
        let rounds = want.priority == .foreground ? limits.rounds : limits.backgroundRounds
        if want.missingAnswers > 0 || want.rounds >= rounds { return give(up: id, want: want) }
        want.passedOver = [:]
        want.ownUpstream = .untried
        (want.upstreamFailures, want.siteFailures, want.refusals) = (0, 0, 0)
        // The peers that wait here have other ways, and who is on one of them perhaps waits for us by way of them.
        let told = want.peerWaiters > 0
        (want.peerWaiters, want.relayWaiters) = (0, 0)
        wants[id] = want
        rest(id, until: now + limits.roundPause * (1 << min(want.rounds - 1, 10)))
        return told ? [.failPeers(id, .unreachable(want.lastFailure ?? Self.noSource))] : []
    }

    private static let noSource = "no peer holds it and no node of the site reaches an upstream"

    private mutating func give(up id: ChunkID, want: Want) -> [FetchAction] {
        let failure: FetchFailure =
            want.missingAnswers > 0
            ? .missing : .unreachable(want.lastFailure ?? Self.noSource)
        return forget(id) + [.fail(id, failure)]
    }

    // MARK: Peers

    /// The highest of the ranking that may be asked, or waited for while it is busy.
    /// - Parameter isForSites: it is to ask another site, whatever became of upstream.
    func bestOwner(of id: ChunkID, want: Want, among owners: [NodeID], isForSites: Bool = false, now: Duration) -> NodeID? {
        var best: (weight: UInt64, node: NodeID)?
        for owner in owners {
            let weight = Rendezvous.weight(id.prefix64, owner)
            if let best, (best.weight, best.node) > (weight, owner) { continue }
            if owner == me {
                guard isForSites || want.ownUpstream == .untried else { continue }
            } else {
                guard (declined[Declined(node: owner, flist: want.flist)] ?? .zero) <= now else { continue }
                switch state(of: owner, for: want, now: now) {
                case .usable: break
                case .busy where want.priority < .foreground: break
                case .busy, .unusable: continue
                }
            }
            best = (weight, owner)
        }
        return best?.node
    }

    /// What the holders can do about `id`.
    ///
    /// - Returns: `best`: the holder that will probably have sent the chunk first. `full`: while there is none, those to wait for,
    ///   since they are busy or have as much to do as they may.
    ///
    /// Among equals the chunk itself decides, so that nodes that ask for the same chunks spread over the holders.
    func sources(
        of id: ChunkID, want: Want, foreground: Bool, among holders: [NodeID], now: Duration
    ) -> (best: NodeID?, full: [NodeID]) {
        guard !holders.isEmpty else { return (nil, []) }
        let places = places(foreground ? .foreground : .prefetch)
        let salt = id.prefix64 ^ me.value.prefix64
        let start = Int(truncatingIfNeeded: Rendezvous.mix(salt) % UInt64(holders.count))
        var best: (wait: Duration, weight: UInt64, node: NodeID)?
        var full: [NodeID] = []
        var considered = 0
        for step in holders.indices {
            let node = holders[(start + step) % holders.count]
            if want.attempts.contains(where: { if case .peer(node, _, _, _) = $0 { true } else { false } }) { continue }
            let state = state(of: node, for: want, now: now)
            guard state != .unusable else { continue }
            guard state == .usable, (loads[node]?.transfers ?? 0) < places else {
                if full.count < limits.linesPerWant { full.append(node) }
                continue
            }
            let candidate = (
                wait: (loads[node] ?? PeerLoad()).expectedWait, weight: Rendezvous.mix(salt ^ node.value.prefix64), node: node
            )
            if best.map({ (candidate.wait, candidate.weight) < ($0.wait, $0.weight) }) ?? true { best = candidate }
            considered += 1
            if considered == limits.holdersConsidered { break }
        }
        return (best?.node, best == nil ? full : [])
    }

    func state(of node: NodeID, for want: Want, now: Duration) -> PeerLoad.State {
        guard node != me, (want.passedOver[node] ?? .zero) <= now else { return .unusable }
        return loads[node]?.state(at: now, patience: limits.busyPatience) ?? .usable
    }

    func places(_ priority: FetchPriority, at node: NodeID? = nil) -> Int {
        let reader = priority == .foreground ? 2 : 0
        if let node, loads[node]?.isOfOtherSite == true { return min(limits.transfersPerPeer, upstreamPlaces) + reader }
        return limits.transfersPerPeer + reader
    }
}
