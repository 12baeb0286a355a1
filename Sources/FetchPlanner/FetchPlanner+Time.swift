internal import ChunkModel
internal import MeshKeys

/// What time, and changes of the mesh, do to the wants.
extension FetchPlanner {
    /// Time has passed, or the mesh has changed: gives up what waits at dead nodes or too long, hedges, tries again.
    public mutating func tick(now: Duration, view: some MeshView) -> [FetchAction] {
        var actions: [FetchAction] = []
        declined = declined.filter { $0.value > now }
        notSeeking = notSeeking.filter { $0.value > now }
        wakeAt = nil
        // Sorted wherever order shows, so that the same events lead to the same actions.
        var gone: Set<NodeID> = []
        var inLine: [NodeID] = []
        for (node, load) in loads {
            let isLive = view.isLive(node)
            if !isLive || now < load.shunnedUntil { gone.insert(node) }
            if !isLive || !load.transferLine.isEmpty || !load.waitLine.isEmpty { inLine.append(node) }
        }
        for node in inLine.sorted() { lookAfter(node, isLive: !gone.contains(node) || view.isLive(node), now: now) }
        let endgame = wants.count <= limits.endgameWants
        var overdue: [(id: ChunkID, node: NodeID, tag: RequestTag)] = []
        var slowSites: [NodeID: Duration] = [:]
        var slow: [(age: UInt64, id: ChunkID)] = []
        var waiting: [(age: UInt64, id: ChunkID)] = []
        var woken: [(age: UInt64, id: ChunkID)] = []
        for (id, want) in wants {
            switch want.standing {
            case .resting(let until) where until > now: wakeAt = min(wakeAt ?? until, until)
            case .resting: woken.append((want.age, id))
            case .parked, .ready, .busy: break
            }
            if want.isInLine, now - want.lookedAt >= (want.priority == .foreground ? limits.firstHedge : limits.lookAgain) {
                waiting.append((want.age, id))
            }
            for attempt in want.attempts {
                guard case .peer(let node, let mode, let tag, let since) = attempt else { continue }
                if (!gone.isEmpty && gone.contains(node)) || isOverdue(want, at: node, mode, since: since, now: now, view: view) {
                    overdue.append((id, node, tag))
                    if mode == .site, view.isLive(node) { slowSites[node] = min(since, slowSites[node] ?? since) }
                } else if want.priority == .foreground || endgame, want.attempts.count == 1, now - since >= hedgeDelay(node, mode) {
                    slow.append((want.age, id))
                }
            }
        }
        for (id, node, tag) in overdue.sorted(by: { $0.tag.value < $1.tag.value }) {
            actions += drop(tag, of: id, cancel: true)
            passOver(node, for: id, until: now + limits.passOver)
            makeReady(id)
        }
        for (node, since) in slowSites.sorted(by: { $0.key < $1.key }) { tooSlow(node, since: since, now: now) }
        for (_, id) in slow.sorted(by: { $0.age < $1.age }) {
            guard let want = wants[id],
                let other = sources(of: id, want: want, foreground: true, among: view.holders(of: id), now: now).best
            else { continue }
            actions += ask(other, id, mode: .ifHeld, now: now)
        }
        for (_, id) in woken.sorted(by: { $0.age < $1.age }) { makeReady(id) }
        for (_, id) in waiting.sorted(by: { $0.age < $1.age }).prefix(limits.wantsPerPass) {
            wants[id]?.lookedAt = now
            // Without a better place it keeps the one in line that it has.
            guard let want = wants[id],
                sources(of: id, want: want, foreground: false, among: view.holders(of: id), now: now).best != nil
            else { continue }
            wants[id]?.attempts.removeAll { if case .upstreamQueue = $0 { true } else { false } }
            makeReady(id)
        }
        actions += leaveSlowRelays(now: now, view: view)
        sweep()
        return actions + pump(now: now, view: view)
    }

    /// Upstream answers again, here or at another node of the site: what rests since all sources failed is tried at once.
    public mutating func upstreamIsBack(now: Duration, view: some MeshView) -> [FetchAction] {
        let resting = wants.filter { $0.value.rounds > 0 && $0.value.isResting }.sorted { $0.value.age < $1.value.age }
        for (id, _) in resting { makeReady(id) }
        return pump(now: now, view: view)
    }

    /// When `tick` is due at the latest; `nil` while nothing waits.
    public func nextDeadline(now: Duration) -> Duration? {
        guard !wants.isEmpty else { return nil }
        // A pass that was cut short goes on at once, but lets others run in between.
        if !ready.isEmpty || !freed.isEmpty { return now + .milliseconds(1) }
        let hurried = wants.count <= limits.endgameWants || foregroundWants > 0
        let regular = now + (hurried ? limits.firstHedge / 2 : .milliseconds(250))
        return min(regular, max(wakeAt ?? regular, now + .milliseconds(1)))
    }

    private mutating func lookAfter(_ node: NodeID, isLive: Bool, now: Duration) {
        guard let load = loads[node] else { return }
        guard isLive else {
            leaveLines(of: node)
            // What was learnt of a node that has gone would pile up where machines come and go.
            if load.transfers == 0, load.waits == 0, load.shunnedUntil <= now { loads[node] = nil }
            return
        }
        guard !load.transferLine.isEmpty || !load.waitLine.isEmpty else { return }
        switch load.state(at: now, patience: limits.busyPatience) {
        case .usable: freed.append(node)
        case .busy: wakeAt = min(wakeAt ?? load.busyUntil, load.busyUntil)
        case .unusable: leaveLines(of: node)
        }
    }

    private func isOverdue(_ want: Want, at node: NodeID, _ mode: AskMode, since: Duration, now: Duration, view: some MeshView)
        -> Bool
    {
        switch mode {
        case .ifHeld: return false
        case .site:
            let isLate =
                want.priority == .foreground
                ? now - since > limits.foregroundSitePatience
                : now - max(since, loads[node]?.lastReceived ?? .zero) > limits.sitePatience
            // Nothing else would bring it: then slow is better than begun again and again.
            return isLate && !view.owners(for: want.flist).isEmpty
        case .fetch, .relay: break
        }
        if want.priority == .foreground { return now - since > limits.foregroundPatience }
        return now - max(since, loads[node]?.lastReceived ?? .zero) > limits.patience
    }

    /// Twice what this peer usually takes, and never less than the first hedge.
    private func hedgeDelay(_ node: NodeID, _ mode: AskMode) -> Duration {
        // How long a chunk is on its way to the one who hands it on says nothing about him.
        if mode == .relay { return max(limits.relayPatience, arrivalInterval * limits.relayIntervals) }
        guard let load = loads[node] else { return limits.firstHedge }
        return max(limits.firstHedge, load.chunkTime * max(1, load.transfers) * 2)
    }

    /// Removes the entries of wants that have left their lines.
    private mutating func sweep() {
        let wants = wants
        func isValid(_ entry: Line.Entry) -> Bool { wants[entry.id]?.ticket == entry.ticket }
        if ready.count > wants.count + 64 { ready.compact(isValid) }
        if upstreamLine.count > wants.count + 64 { upstreamLine.compact(isValid) }
        for (node, load) in loads where load.transferLine.count + load.waitLine.count > 64 {
            loads[node]?.transferLine.compact(isValid)
            loads[node]?.waitLine.compact(isValid)
        }
    }
}
