internal import ChunkModel
internal import MeshKeys

/// Finding a source for the wants that have none.
extension FetchPlanner {
    /// Gives work to every free place: upstream first, then wants without a source, most urgent and oldest first.
    mutating func pump(now: Duration, view: some MeshView) -> [FetchAction] {
        var actions: [FetchAction] = []
        var looked = 0
        for priority in FetchPriority.allCases.reversed() {
            let line = idle[Int(priority.rawValue)]
            guard !line.isEmpty else { continue }
            idle[Int(priority.rawValue)] = []
            var kept: [ChunkID] = []
            for (position, id) in line.enumerated() {
                guard let want = wants[id], want.isIdle, want.priority == priority else { continue }
                guard looked < limits.wantsPerPass else {
                    kept += line[position...]
                    break
                }
                looked += 1
                guard want.notBefore <= now else {
                    kept.append(id)
                    continue
                }
                actions += findSource(id, now: now, view: view)
                if let left = wants[id], left.isIdle { kept.append(id) }
            }
            idle[Int(priority.rawValue)] = kept + idle[Int(priority.rawValue)]
        }
        return actions + fillUpstream(now: now, view: view)
    }

    private mutating func findSource(_ id: ChunkID, now: Duration, view: some MeshView) -> [FetchAction] {
        guard let want = wants[id] else { return [] }
        let holders = usableHolders(of: id, now: now, view: view)
        if !holders.isEmpty {
            let places = limits.transfersPerPeer + (want.priority == .foreground ? 2 : 0)
            guard let best = quickest(of: holders, for: id, places: places) else { return [] }
            return ask(best, id, mode: .ifHeld, now: now)
        }
        if let claimant = view.claimant(of: id), isUsable(claimant, for: want, now: now), hasWaitPlace(claimant) {
            return ask(claimant, id, mode: .fetch, now: now)
        }
        let owners = view.owners(for: want.flist)
        if want.localWaiters == 0 {
            // Only peers wait: they took us for the owner, so the chunk comes from upstream or they are told to look elsewhere.
            guard want.ownUpstream == .untried, owners.contains(me) else {
                return give(up: id, want: want)
            }
            return queueUpstream(id)
        }
        for owner in Rendezvous.ranking(of: id, among: owners) {
            if owner == me {
                if want.ownUpstream == .untried { return queueUpstream(id) }
            } else if isUsable(owner, for: want, now: now), (declined[Declined(node: owner, flist: want.flist)] ?? .zero) <= now {
                return hasWaitPlace(owner) ? ask(owner, id, mode: .fetch, now: now) : []
            }
        }
        return roundOver(id, now: now)
    }

    private mutating func queueUpstream(_ id: ChunkID) -> [FetchAction] {
        guard let want = wants[id] else { return [] }
        wants[id]?.attempts.append(.upstreamQueue)
        upstreamLine[Int(want.priority.rawValue)].append(id)
        return []
    }

    /// All sources have failed once.
    private mutating func roundOver(_ id: ChunkID, now: Duration) -> [FetchAction] {
        guard var want = wants[id] else { return [] }
        want.rounds += 1
        if want.ownUpstream == .missing || want.rounds >= limits.rounds { return give(up: id, want: want) }
        want.notBefore = now + limits.roundPause * (1 << (want.rounds - 1))
        want.passedOver = [:]
        want.ownUpstream = .untried
        wants[id] = want
        return []
    }

    private mutating func give(up id: ChunkID, want: Want) -> [FetchAction] {
        let failure: FetchFailure =
            want.ownUpstream == .missing
            ? .missing : .unreachable(want.lastFailure ?? "no peer holds it and no node of the site reaches an upstream")
        return forget(id) + [.fail(id, failure)]
    }

    // MARK: Upstream

    private mutating func fillUpstream(now: Duration, view: some MeshView) -> [FetchAction] {
        var actions: [FetchAction] = []
        while upstreamActive.count < upstreamPlaces, let id = nextInUpstreamLine() {
            guard var want = wants[id] else { continue }
            want.attempts.removeAll { if case .upstreamQueue = $0 { true } else { false } }
            wants[id] = want
            // Somebody may have got it, or begun to, while it stood in line.
            let claimant = view.claimant(of: id).flatMap { isUsable($0, for: want, now: now) ? $0 : nil }
            if !usableHolders(of: id, now: now, view: view).isEmpty || claimant != nil {
                actions += findSource(id, now: now, view: view)
                requeue(id)
                continue
            }
            wants[id]?.attempts.append(.upstream)
            upstreamActive.insert(id)
            actions.append(.fetchUpstream(id, flist: want.flist, priority: want.priority))
        }
        return actions
    }

    private mutating func nextInUpstreamLine() -> ChunkID? {
        for priority in FetchPriority.allCases.reversed() {
            let line = upstreamLine[Int(priority.rawValue)]
            for (position, id) in line.enumerated() {
                guard let want = wants[id], want.priority == priority,
                    want.attempts.contains(where: { if case .upstreamQueue = $0 { true } else { false } })
                else { continue }
                upstreamLine[Int(priority.rawValue)].removeFirst(position + 1)
                return id
            }
            upstreamLine[Int(priority.rawValue)] = []
        }
        return nil
    }

    // MARK: Peers

    func usableHolders(of id: ChunkID, now: Duration, view: some MeshView) -> [NodeID] {
        guard let want = wants[id] else { return [] }
        let asked = want.attempts.compactMap { if case .peer(let node, _, _, _) = $0 { node } else { nil } }
        return view.holders(of: id).filter { isUsable($0, for: want, now: now) && !asked.contains($0) }
    }

    private func isUsable(_ node: NodeID, for want: Want, now: Duration) -> Bool {
        node != me && (loads[node]?.isUsable(at: now) ?? true) && (want.passedOver[node] ?? .zero) <= now
    }

    private func hasWaitPlace(_ node: NodeID) -> Bool { (loads[node]?.waits ?? 0) < limits.waitsPerPeer }

    /// The holder that will probably have sent the chunk first; `nil` when all have as much to do as they may.
    ///
    /// Among equals the chunk itself decides, so that nodes that ask for the same chunks spread over the holders.
    func quickest(of holders: [NodeID], for id: ChunkID, places: Int) -> NodeID? {
        let free = holders.filter { (loads[$0]?.transfers ?? 0) < places }
        return free.min { a, b in
            let waitA = (loads[a] ?? PeerLoad()).expectedWait
            let waitB = (loads[b] ?? PeerLoad()).expectedWait
            if waitA != waitB { return waitA < waitB }
            let salt = id.prefix64 ^ me.value.prefix64
            return Rendezvous.mix(salt ^ a.value.prefix64) < Rendezvous.mix(salt ^ b.value.prefix64)
        }
    }
}
