internal import BlockingThreads
internal import ChunkModel
internal import FetchPlanner
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import PeerExchange
internal import PeerProtocol
internal import Synchronization
internal import UpstreamStores

/// Carrying out what the planner decided. Nothing here blocks.
extension ChunkFetcher {
    func perform(_ action: FetchAction) {
        switch action {
        case .ask(let node, let chunk, let flist, let mode, let priority, let tag):
            ask(node, chunk, flist: flist, mode: mode, priority: priority, tag: tag)
        case .cancel(let tag):
            let request = state.withLock { $0.sent.removeValue(forKey: tag) }
            if case .some(.some(let request)) = request { exchange.value?.cancel(request) }
        case .fetchUpstream(let chunk, let flist, let priority): startUpstream(chunk, flist: flist, priority: priority)
        case .hastenUpstream(let chunk):
            guard let fetch = state.withLock({ $0.upstream[chunk] }) else { return }
            fetch.urgency.raise(to: .foreground)
            parts.line.raised(fetch.use)
        case .cancelUpstream(let chunk):
            let fetch = state.withLock { $0.upstream.removeValue(forKey: chunk) }
            fetch?.task?.cancel()
        case .dropStaleClaim(let node, let chunk):
            let places = parts.flists.places(of: chunk)
            parts.gossip.change { machine, _ in
                for (digest, index) in places { machine.dropClaimedHave(node, digest, index) }
            }
        case .suspect(let node): parts.gossip.noteUnreachable(node)
        case .fail(let chunk, let failure): fail(chunk, failure)
        case .failPeers(let chunk, let failure): failPeers(chunk, failure)
        }
    }

    private func fail(_ chunk: ChunkID, _ failure: FetchFailure) {
        let waiters = state.withLock { $0.waiters.removeValue(forKey: chunk) ?? [] }
        for waiter in waiters { waiter.resume(.failure(failure)) }
        failPeers(chunk, failure)
    }

    private func failPeers(_ chunk: ChunkID, _ failure: FetchFailure) {
        let responders = state.withLock { state in
            let responders = state.responders.removeValue(forKey: chunk) ?? []
            for responder in responders { state.asked[responder.id] = nil }
            return responders
        }
        for responder in responders {
            switch failure {
            case .missing: responder.missing()
            case .unreachable: responder.refused(.upstreamFailed)
            }
        }
    }

    // MARK: Peers

    private func ask(_ node: NodeID, _ chunk: ChunkID, flist: FlistDigest?, mode: AskMode, priority: FetchPriority, tag: RequestTag) {
        guard let address = parts.gossip.address(node), let exchange = exchange.value else {
            return answered(tag, chunk, node, .failed)
        }
        let request = PeerRequest(.chunk(chunk, ChunkMode(mode), flist: flist), priority: priority)
        // The others of this site wait for it here, as they do for what comes from upstream.
        if mode == .site { claim(chunk, true) }
        // The answer may come before `send` returns.
        state.withLock { _ = $0.sent.updateValue(nil, forKey: tag) }
        let id = exchange.send(request, to: node, at: address, deadline: Self.requestDeadline) { [weak self] response in
            self?.received(response, tag: tag, chunk: chunk, from: node, mode: mode)
        }
        state.withLock { if $0.sent.keys.contains(tag) { $0.sent[tag] = .some(id) } }
    }

    /// On an I/O thread of the exchange.
    private func received(_ response: PeerResponse, tag: RequestTag, chunk: ChunkID, from node: NodeID, mode: AskMode) {
        if response.isFinal {
            state.withLock { _ = $0.sent.removeValue(forKey: tag) }
            if mode == .site { claim(chunk, false) }
        }
        switch response {
        case .pending: answered(tag, chunk, node, .pending)
        case .data(let buffer):
            answered(tag, chunk, node, .received)
            parts.threads.start { [self] in
                if let chunk = Chunk(verifying: buffer, as: chunk) {
                    pass(on: chunk)
                    parts.disk.start { [self] in arrived(chunk, from: mode == .site ? .site : .peer) }
                } else {
                    parts.counters.blame(node)
                    parts.logger.warning(
                        "peer sent wrong bytes for a chunk",
                        metadata: ["peer": "\(parts.gossip.member(node)?.name ?? "")", "id": "\(node)", "chunk": "\(chunk)"])
                    answered(tag, chunk, node, .corrupt)
                }
            }
        case .missing: answered(tag, chunk, node, .missing)
        case .busy(let pause): answered(tag, chunk, node, .busy(retryAfter: pause))
        case .refused(.notOwner): answered(tag, chunk, node, .notOwner)
        case .refused(.declined), .refused(.notAllowed): answered(tag, chunk, node, .declined)
        case .refused(.upstreamFailed): answered(tag, chunk, node, .upstreamFailed)
        case .refused(let reason):
            parts.logger.debug("peer refused a chunk", metadata: ["peer": "\(node)", "reason": "\(reason)"])
            answered(tag, chunk, node, .declined)
        case .message: answered(tag, chunk, node, .failed)
        case .failed(.cancelled): break
        case .failed(let error):
            parts.counters.add { $0.peerFailures += 1 }
            parts.logger.debug("request to a peer failed", metadata: ["peer": "\(node)", "error": "\(error)"])
            answered(tag, chunk, node, .failed)
        }
    }

    private func answered(_ tag: RequestTag, _ chunk: ChunkID, _ node: NodeID, _ answer: PeerAnswer) {
        step { state, now, view in state.outbox += state.planner.peerAnswered(tag, answer, now: now, view: view) }
    }

    // MARK: Upstream

    private func startUpstream(_ chunk: ChunkID, flist: FlistDigest?, priority: FetchPriority) {
        let isWholeBlock = flist.flatMap { parts.flists.entry($0) }?.flist.isWholeBlock(chunk) ?? false
        let urgency = FetchUrgency(priority, isWholeBlock: isWholeBlock)
        let use = parts.line.began(priority)
        let turn = state.withLock { state -> UInt64? in
            guard !state.isStopped else { return nil }
            state.nextFetch += 1
            state.upstream[chunk] = UpstreamFetch(turn: state.nextFetch, urgency: urgency, use: use)
            return state.nextFetch
        }
        guard let turn else { return parts.line.ended(use) }
        let task = FetchUrgency.$current.withValue(urgency) { fetchUpstream(chunk, flist: flist, priority: priority, turn: turn, use: use) }
        state.withLock { if $0.upstream[chunk]?.turn == turn { $0.upstream[chunk]?.task = task } }
    }

    private func fetchUpstream(_ chunk: ChunkID, flist: FlistDigest?, priority: FetchPriority, turn: UInt64, use: UInt64) -> Task<
        Void, Never
    > {
        Task { [self] in
            defer { parts.line.ended(use) }
            guard let way = parts.upstream.way(for: flist) else {
                return upstreamEnded(chunk, turn, .failed("no upstream is known for chunk \(chunk.hex.prefix(12))…"))
            }
            claim(chunk, true)
            defer { claim(chunk, false) }
            do throws(UpstreamError) {
                let verified = try await way.chunk(chunk, priority: priority, pool: parts.pool) { [parts] buffer, id in
                    await parts.threads.run {
                        let chunk = Chunk(verifying: buffer, as: id)
                        if chunk == nil { parts.counters.add { $0.verifyFailedUpstream += 1 } }
                        return chunk
                    }
                }
                // The line is free for others while the disk writes.
                parts.line.ended(use)
                if parts.upstream.noteSuccess() { upstreamIsBack() }
                if let flist { parts.upstream.noteAnswer(of: flist) }
                state.withLock { if $0.upstream[chunk]?.turn == turn { $0.upstream[chunk] = nil } }
                pass(on: verified)
                await parts.disk.run { [self] in arrived(verified, from: .upstream) }
            } catch {
                switch error {
                case .missing:
                    if parts.upstream.noteSuccess() { upstreamIsBack() }
                    if let flist { parts.upstream.noteAnswer(of: flist) }
                    upstreamEnded(chunk, turn, .missing)
                case .cancelled: upstreamEnded(chunk, turn, .failed("cancelled"))
                case .unusable(let line):
                    parts.upstream.noteUnusable(line)
                    if let flist { parts.upstream.noteTrouble(line, of: flist, now: parts.clock.now) }
                    upstreamEnded(chunk, turn, .failed(line))
                case .failed(_, let line):
                    parts.counters.add { $0.upstreamErrors += 1 }
                    if let flist { parts.upstream.noteTrouble(line, of: flist, now: parts.clock.now) }
                    if parts.upstream.noteFailure(line, now: parts.clock.now) {
                        parts.logger.warning(
                            "upstream does not answer; leaving it to other nodes for a while", metadata: ["reason": "\(line)"])
                        parts.profileChanged()
                    }
                    upstreamEnded(chunk, turn, .failed(line))
                }
            }
        }
    }

    /// Upstream answers here again after it had failed: the others are told, and what waits need not wait longer.
    private func upstreamIsBack() {
        parts.profileChanged()
        goOn()
    }

    /// Upstream answers here or at another node of the site again.
    func goOn() {
        returns.add(1, ordering: .relaxed)
        step { state, now, view in state.outbox += state.planner.upstreamIsBack(now: now, view: view) }
    }

    private func upstreamEnded(_ chunk: ChunkID, _ turn: UInt64, _ answer: UpstreamAnswer) {
        step { state, now, view in
            guard state.upstream[chunk]?.turn == turn else { return }
            state.upstream[chunk] = nil
            state.outbox += state.planner.upstreamAnswered(chunk, answer, now: now, view: view)
        }
    }

    /// Tells the site that this node is fetching the chunk, or no longer.
    private func claim(_ chunk: ChunkID, _ isFetching: Bool) {
        let places = parts.flists.places(of: chunk)
        parts.gossip.change { machine, now in
            for (digest, index) in places {
                if isFetching { _ = machine.claim(digest, index, now: now) } else { machine.release(digest, index) }
            }
        }
    }
}

extension ChunkMode {
    init(_ mode: AskMode) {
        self =
            switch mode {
            case .ifHeld: .ifHeld
            case .fetch: .fetch
            case .site: .site
            case .relay: .relay
            }
    }
}
