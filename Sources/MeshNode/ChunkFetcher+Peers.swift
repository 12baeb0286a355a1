internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import FetchPlanner
internal import MeshKeys
internal import PeerExchange
internal import PeerProtocol
internal import Synchronization

/// Answering the chunk requests of other nodes.
extension ChunkFetcher {
    /// When a peer may ask again after this process had no descriptor left.
    static let descriptorPause: Duration = .milliseconds(500)

    /// On an I/O thread of the exchange.
    func serve(
        _ id: ChunkID, _ mode: ChunkMode, flist: FlistDigest?, priority: FetchPriority, to responder: PeerResponder, of peer: NodeID
    ) {
        // Only a peer that has not heard of this node's mode yet asks.
        guard parts.mode != .fetch else {
            return mode == .ifHeld || mode == .site ? responder.missing() : responder.refused(.declined)
        }
        guard parts.store.contains(id) else { return notHeld(id, mode, flist: flist, priority: priority, responder, peer) }
        parts.threads.start { [self] in
            let open: OpenChunk?
            // Held, but out of descriptors: looking for it elsewhere would lead back here.
            do { open = try parts.store.open(id) } catch { return responder.busy(retryAfter: Self.descriptorPause) }
            guard let open else { return notHeld(id, mode, flist: flist, priority: priority, responder, peer) }
            guard let descriptor = open.duplicate() else { return responder.busy(retryAfter: Self.descriptorPause) }
            parts.counters.add { if mode == .site { $0.toSites.add(open.size) } else { $0.toPeers.add(open.size) } }
            responder.sendFile(descriptor, length: open.size)
        }
    }

    private func notHeld(
        _ id: ChunkID, _ mode: ChunkMode, flist: FlistDigest?, priority: FetchPriority, _ responder: PeerResponder, _ peer: NodeID
    ) {
        switch mode {
        case .ifHeld, .site: return responder.missing()
        case .relay: return join(id, mode, flist: flist, priority: priority, responder, peer)
        case .fetch: break
        }
        guard parts.mode == .both else { return responder.refused(.declined) }
        if let flist, parts.flists.entry(flist) == nil, !parts.upstream.hasWay(for: flist) {
            let grace = priority == .foreground ? Self.unknownFlistGraceForReads : Self.unknownFlistGrace
            let isKept = state.withLock { state in
                guard state.early.count < Self.maxEarlyRequests else { return false }
                state.early[responder.id] = EarlyRequest(
                    chunk: id, flist: flist, priority: priority, responder: responder, peer: peer, until: parts.clock.now + grace)
                return true
            }
            if isKept { parts.wakeTicker() } else { responder.refused(.declined) }
            return
        }
        join(id, mode, flist: flist, priority: priority, responder, peer)
    }

    private func join(
        _ id: ChunkID, _ mode: ChunkMode, flist: FlistDigest?, priority: FetchPriority, _ responder: PeerResponder, _ peer: NodeID
    ) {
        enum Outcome { case joined, held, busy, notOwner, declined }
        let outcome: Outcome = step { state, now, view in
            if parts.store.contains(id) { return .held }
            let (answer, actions) =
                mode == .relay
                ? state.planner.wantToRelay(id, flist: flist, to: peer, now: now, view: view)
                : state.planner.wantForPeer(id, flist: flist, priority: priority, now: now, view: view)
            state.outbox += actions
            switch answer {
            case .joined:
                state.responders[id, default: []].append(responder)
                state.asked[responder.id] = (id, mode == .relay)
                return .joined
            case .busy: return .busy
            case .notOwner: return .notOwner
            case .declined: return .declined
            }
        }
        switch outcome {
        case .joined: parts.wakeTicker()
        case .held: serve(id, mode, flist: flist, priority: priority, to: responder, of: peer)
        case .busy: responder.busy(retryAfter: .milliseconds(200))
        case .notOwner: responder.refused(.notOwner)
        case .declined: responder.refused(.declined)
        }
    }

    /// An flist has become known: requests that came too early get their turn.
    func flistOpened(_ digest: FlistDigest) {
        let early = state.withLock { state in
            let early = state.early.values.filter { $0.flist == digest }
            for request in early { state.early[request.responder.id] = nil }
            return early
        }
        for request in early {
            serve(request.chunk, .fetch, flist: digest, priority: request.priority, to: request.responder, of: request.peer)
        }
    }

    func cancelled(_ id: PeerResponder.ID) {
        step { state, now, view in
            state.early[id] = nil
            guard let (chunk, relayed) = state.asked.removeValue(forKey: id) else { return }
            state.responders[chunk]?.removeAll { $0.id == id }
            if state.responders[chunk]?.isEmpty == true { state.responders[chunk] = nil }
            state.outbox += state.planner.abandon(chunk, forPeer: true, relayed: relayed, now: now, view: view)
        }
    }
}
