public import ChunkModel
internal import MeshKeys

/// What came of the requests, and what time does to them.
extension FetchPlanner {
    /// How the request `tag` to a peer goes on or ended.
    public mutating func peerAnswered(_ tag: RequestTag, _ answer: PeerAnswer, now: Duration, view: some MeshView) -> [FetchAction] {
        guard let id = tags[tag], let want = wants[id] else { return [] }
        if answer == .corrupt, let node = want.verifying[tag] {
            return corrupt(from: node, tag: tag, id: id, now: now) + pump(now: now, view: view)
        }
        guard
            case .peer(let node, let mode, _, let since)? = want.attempts.first(where: {
                if case .peer(_, _, tag, _) = $0 { true } else { false }
            })
        else { return [] }
        guard answer != .pending else { return [] }

        if answer == .received, mode == .ifHeld { loads[node, default: PeerLoad()].noteAnswer(after: now - since) }
        if answer == .received { loads[node, default: PeerLoad()].failures = 0 }
        var actions = drop(tag, of: id, cancel: false)
        switch answer {
        case .pending: break
        case .received:
            tags[tag] = id
            wants[id]?.verifying[tag] = node
        case .corrupt: actions += corrupt(from: node, tag: tag, id: id, now: now)
        case .missing where mode == .ifHeld:
            actions.append(.dropStaleClaim(node, id))
            passOver(node, for: id, until: now + limits.passOver)
        case .missing:
            // The owner's hub does not have it. Ours is asked too, unless it was: routes may differ.
            passOver(node, for: id, until: now + limits.passOver)
            if want.ownUpstream == .untried, !view.owners(for: want.flist).contains(me) { wants[id]?.ownUpstream = .missing }
            wants[id]?.lastFailure = "upstream does not have it"
        case .busy(let pause):
            loads[node, default: PeerLoad()].restUntil = now + min(max(pause, .milliseconds(10)), limits.peerRest)
        case .declined:
            declined[Declined(node: node, flist: want.flist)] = now + limits.declinedPause
        case .notOwner:
            passOver(node, for: id, until: now + limits.notOwnerPause)
        case .upstreamFailed:
            passOver(node, for: id, until: now + limits.passOver)
            wants[id]?.lastFailure = "the owner could not reach upstream"
        case .failed:
            actions += failed(node, now: now)
            passOver(node, for: id, until: now + limits.passOver)
        }
        requeue(id)
        return actions + pump(now: now, view: view)
    }

    /// A fetch from upstream ended without the chunk; with it, `arrived` is called instead.
    public mutating func upstreamAnswered(_ id: ChunkID, _ answer: UpstreamAnswer, now: Duration, view: some MeshView) -> [FetchAction] {
        guard upstreamActive.remove(id) != nil, var want = wants[id] else { return pump(now: now, view: view) }
        want.attempts.removeAll { if case .upstream = $0 { true } else { false } }
        switch answer {
        case .missing: want.ownUpstream = .missing
        case .failed(let reason):
            want.ownUpstream = .failed
            want.lastFailure = reason
        }
        wants[id] = want
        guard want.isWaitedFor else { return forget(id) + pump(now: now, view: view) }
        requeue(id)
        return pump(now: now, view: view)
    }

    /// Time has passed, or the mesh has changed: gives up what waits at dead nodes or too long, hedges, tries again.
    public mutating func tick(now: Duration, view: some MeshView) -> [FetchAction] {
        var actions: [FetchAction] = []
        declined = declined.filter { $0.value > now }
        // What was learnt of a node that has gone would pile up where machines come and go.
        loads = loads.filter { view.isLive($0.key) || $0.value.transfers > 0 || $0.value.waits > 0 || $0.value.shunnedUntil > now }
        let endgame = wants.count <= limits.endgameWants
        for (id, want) in wants {
            for attempt in want.attempts {
                guard case .peer(let node, let mode, let tag, let since) = attempt else { continue }
                let patience = want.priority == .foreground ? limits.foregroundPatience : limits.patience
                if !view.isLive(node) || (mode == .fetch && now - since > patience) {
                    actions += drop(tag, of: id, cancel: true)
                    passOver(node, for: id, until: now + limits.passOver)
                    requeue(id)
                } else if mode == .ifHeld, want.priority == .foreground || endgame, want.attempts.count == 1,
                    now - since >= hedgeDelay(node),
                    let other = quickest(of: usableHolders(of: id, now: now, view: view), for: id, places: .max)
                {
                    actions += ask(other, id, mode: .ifHeld, now: now)
                }
            }
        }
        return actions + pump(now: now, view: view)
    }

    /// When `tick` is due at the latest; `nil` while nothing waits.
    public func nextDeadline(now: Duration) -> Duration? {
        guard !wants.isEmpty else { return nil }
        let hurried = wants.count <= limits.endgameWants || wants.values.contains { $0.priority == .foreground }
        return now + (hurried ? limits.firstHedge / 2 : .milliseconds(250))
    }

    /// Twice what this peer usually takes, and never less than the first hedge.
    private func hedgeDelay(_ node: NodeID) -> Duration {
        guard let load = loads[node] else { return limits.firstHedge }
        return max(limits.firstHedge, load.chunkTime * max(1, load.transfers) * 2)
    }

    private mutating func passOver(_ node: NodeID, for id: ChunkID, until: Duration) { wants[id]?.passedOver[node] = until }

    private mutating func failed(_ node: NodeID, now: Duration) -> [FetchAction] {
        var load = loads[node, default: PeerLoad()]
        let first = load.restUntil <= now
        if first { load.failures = min(load.failures + 1, 5) }
        load.restUntil = max(load.restUntil, now + limits.peerRest * load.failures)
        loads[node] = load
        return first ? [.suspect(node)] : []
    }

    private mutating func corrupt(from node: NodeID, tag: RequestTag, id: ChunkID, now: Duration) -> [FetchAction] {
        tags[tag] = nil
        wants[id]?.verifying[tag] = nil
        passOver(node, for: id, until: now + limits.shun)
        var load = loads[node, default: PeerLoad()]
        load.offences += 1
        if load.offences >= limits.offences {
            load.offences = 0
            load.shunnedUntil = now + limits.shun
        }
        loads[node] = load
        requeue(id)
        return [.dropStaleClaim(node, id)]
    }
}
