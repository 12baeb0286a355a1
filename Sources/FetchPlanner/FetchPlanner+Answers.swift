public import ChunkModel
internal import MeshKeys

/// What came of the requests.
extension FetchPlanner {
    /// How the request `tag` to a peer goes on or ended. After `received`, `arrived` or any other answer for the tag is to follow.
    public mutating func peerAnswered(_ tag: RequestTag, _ answer: PeerAnswer, now: Duration, view: some MeshView) -> [FetchAction] {
        guard let id = tags[tag], let want = wants[id] else { return [] }
        if let node = want.verifying[tag] {
            switch answer {
            case .pending, .received: return []
            case .corrupt: return corrupt(from: node, tag: tag, id: id, now: now) + pump(now: now, view: view)
            case .missing, .busy, .declined, .notOwner, .upstreamFailed, .failed:
                // It could not be verified or stored here: no fault of the peer.
                tags[tag] = nil
                wants[id]?.verifying[tag] = nil
                makeReady(id)
                return pump(now: now, view: view)
            }
        }
        guard
            case .peer(let node, let mode, _, let since)? = want.attempts.first(where: {
                if case .peer(_, _, tag, _) = $0 { true } else { false }
            })
        else { return [] }
        guard answer != .pending else { return [] }

        if answer == .received {
            let isHeld = mode == .ifHeld || mode == .site
            let sharing = mode == .site ? siteTransfers : nil
            loads[node, default: PeerLoad()].noteReceived(transferSince: isHeld ? since : nil, sharing: sharing, now: now)
            noteArrival(now: now)
        }
        var actions = drop(tag, of: id, cancel: false)
        if mode == .relay, notHandedOn(answer, by: node, id, now: now) { return pump(now: now, view: view) }
        var pause: Duration?
        if answer != .notOwner { wants[id]?.refusals = 0 }
        switch answer {
        case .pending: break
        case .received:
            tags[tag] = id
            wants[id]?.verifying[tag] = node
        case .corrupt: actions += corrupt(from: node, tag: tag, id: id, now: now)
        case .missing where mode != .fetch:
            actions.append(.dropStaleClaim(node, id))
            passOver(node, for: id, until: now + limits.passOver)
        case .missing:
            // The owner's hub does not have it. Another's may: routes may differ.
            passOver(node, for: id, until: now + limits.passOver)
            wants[id]?.missingAnswers += 1
        case .busy(let retryAfter): busy(node, until: now + min(max(retryAfter, .milliseconds(10)), limits.peerRest), now: now)
        case .declined where mode == .site, .notOwner where mode == .site, .upstreamFailed where mode == .site:
            passOver(node, for: id, until: now + limits.passOver)
        case .declined: declined[Declined(node: node, flist: want.flist)] = now + limits.declinedPause
        case .notOwner: pause = refused(by: node, id, now: now, view: view)
        case .upstreamFailed:
            passOver(node, for: id, until: now + limits.passOver)
            wants[id]?.upstreamFailures += 1
            if !view.sites(holding: id).isEmpty { wants[id]?.siteFailures += 1 }
            wants[id]?.lastFailure = "the owner could not reach upstream"
        case .failed:
            actions += failed(node, now: now)
            passOver(node, for: id, until: now + limits.passOver)
        }
        if let pause { rest(id, until: now + pause) } else { makeReady(id) }
        return actions + pump(now: now, view: view)
    }

    /// A fetch from upstream ended without the chunk; with it, `arrived` is called instead.
    public mutating func upstreamAnswered(_ id: ChunkID, _ answer: UpstreamAnswer, now: Duration, view: some MeshView) -> [FetchAction] {
        costs.end(id, arrived: false, active: 1, now: now)
        guard upstreamActive.remove(id) != nil, var want = wants[id] else { return pump(now: now, view: view) }
        want.attempts.removeAll { if case .upstream = $0 { true } else { false } }
        let failure: FetchFailure
        switch answer {
        case .missing:
            want.ownUpstream = .missing
            want.missingAnswers += 1
            failure = .missing
        case .failed(let reason):
            want.ownUpstream = .failed
            want.upstreamFailures += 1
            want.lastFailure = reason
            failure = .unreachable(reason)
        }
        var actions: [FetchAction] = []
        if want.localWaiters > 0, want.peerWaiters > 0 {
            // They have other owners to ask, and those could not ask us while we waited for them.
            (want.peerWaiters, want.relayWaiters) = (0, 0)
            actions.append(.failPeers(id, failure))
        }
        wants[id] = want
        guard want.isWaitedFor else { return forget(id) + pump(now: now, view: view) }
        makeReady(id)
        return actions + pump(now: now, view: view)
    }

    mutating func passOver(_ node: NodeID, for id: ChunkID, until: Duration) { wants[id]?.passedOver[node] = until }

    /// How long to wait until the same node is asked again; `nil` when it is the next one's turn.
    private mutating func refused(by node: NodeID, _ id: ChunkID, now: Duration, view: some MeshView) -> Duration? {
        guard let want = wants[id] else { return nil }
        guard want.refusals < limits.notOwnerRetries, view.claimant(of: id) != node else {
            wants[id]?.refusals = 0
            passOver(node, for: id, until: now + limits.passOver)
            return nil
        }
        wants[id]?.refusals += 1
        // Two nodes that refuse each other must not go on doing so in step.
        let spread = Int(truncatingIfNeeded: Rendezvous.mix(id.prefix64 ^ me.value.prefix64) & 63)
        return limits.notOwnerPause * (1 << min(want.refusals, 10)) * (64 + spread) / 64
    }

    private mutating func busy(_ node: NodeID, until: Duration, now: Duration) {
        var load = loads[node, default: PeerLoad()]
        load.busyUntil = max(load.busyUntil, until)
        load.busySince = load.busySince ?? now
        loads[node] = load
        wakeAt = min(wakeAt ?? until, until)
    }

    private mutating func failed(_ node: NodeID, now: Duration) -> [FetchAction] {
        let load = loads[node, default: PeerLoad()]
        let first = load.restUntil <= now
        let failures = first ? min(load.failures + 1, 5) : load.failures
        loads[node, default: PeerLoad()].failures = failures
        loads[node, default: PeerLoad()].restUntil = max(load.restUntil, now + limits.peerRest * failures)
        leaveLines(of: node)
        return first ? [.suspect(node)] : []
    }

    private mutating func corrupt(from node: NodeID, tag: RequestTag, id: ChunkID, now: Duration) -> [FetchAction] {
        tags[tag] = nil
        wants[id]?.verifying[tag] = nil
        passOver(node, for: id, until: now + limits.shun)
        offend(node, now: now)
        makeReady(id)
        return [.dropStaleClaim(node, id)]
    }

    /// Those who wait for a place at `node` look elsewhere.
    mutating func leaveLines(of node: NodeID) {
        guard let load = loads[node] else { return }
        for var line in [load.transferLine, load.waitLine] {
            while let entry = line.popFirst() {
                if isValid(entry) { makeReady(entry.id) }
            }
        }
        loads[node]?.transferLine = Line()
        loads[node]?.waitLine = Line()
    }
}
