internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import FetchPlanner
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import PeerExchange
internal import PeerProtocol
internal import Synchronization
internal import UpstreamStores

/// Gets chunks: from the cache, from peers, from upstream. The shell around `FetchPlanner`: it carries out what the planner decides,
/// verifies and stores what arrives, and wakes whoever waits.
final class ChunkFetcher: Sendable {
    /// A peer that asks for a chunk of an flist which this node does not know yet is kept waiting this long: machines that are
    /// told of an image at the same moment hear of it at slightly different times, and whoever is declined goes to another owner.
    static let unknownFlistGrace: Duration = .seconds(2)
    /// The same when a reader waits.
    static let unknownFlistGraceForReads: Duration = .milliseconds(300)
    /// While any flist is being opened here, which may be the one, they are kept this much longer: an owner that declines is left
    /// out for a while, and its chunks would be fetched by another one too.
    static let openingGrace: Duration = .seconds(10)
    /// Requests of peers that wait for an flist to become known; more are declined at once.
    static let maxEarlyRequests = 4096
    /// Deadline of one request to a peer; owners keep it alive with heartbeats.
    static let requestDeadline: Duration = .seconds(300)

    struct Delivery: Sendable {
        let chunk: Chunk
        let origin: ChunkOrigin
        let isStored: Bool
    }

    struct Waiter: Sendable {
        let id: UInt64
        let resume: @Sendable (Result<Delivery, any Error>) -> Void
    }

    /// A peer's request for a chunk of an flist that is not known here yet.
    struct EarlyRequest {
        let chunk: ChunkID
        let flist: FlistDigest?
        let priority: FetchPriority
        let responder: PeerResponder
        let peer: NodeID
        let until: Duration
    }

    struct State {
        var planner: FetchPlanner
        var waiters: [ChunkID: [Waiter]] = [:]
        var responders: [ChunkID: [PeerResponder]] = [:]
        var asked: [PeerResponder.ID: (chunk: ChunkID, relayed: Bool)] = [:]
        var early: [PeerResponder.ID: EarlyRequest] = [:]
        /// Requests to peers that have not ended; without an id while it is being handed to the exchange.
        var sent: [RequestTag: RequestID?] = [:]
        var upstream: [ChunkID: UpstreamFetch] = [:]
        /// Actions in the order in which the planner gave them; one thread at a time carries them out.
        var outbox: [FetchAction] = []
        var isDraining = false
        var nextWaiter: UInt64 = 0
        var nextFetch: UInt64 = 0
        var isStopped = false
    }

    /// A fetch from upstream. Only the one that stands in the state may report its end: one that was cancelled, and still unwinds
    /// while the chunk is fetched anew, is not confused with its successor.
    struct UpstreamFetch {
        let turn: UInt64
        let urgency: FetchUrgency
        /// Of the line.
        let use: UInt64
        var task: Task<Void, Never>?
    }

    let parts: NodeParts
    let state: Mutex<State>
    /// Times that upstream was found to answer again.
    let returns = Atomic<UInt64>(0)
    let exchange: LateExchange

    init(parts: NodeParts, exchange: LateExchange) {
        (self.parts, self.exchange) = (parts, exchange)
        state = Mutex(State(planner: FetchPlanner(me: parts.identity.id)))
    }

    var view: SiteView {
        parts.view
    }

    // MARK: For this node

    /// The chunk, verified, from wherever it is to be had.
    ///
    /// - Throws: `FetchFailure`, `CancellationError`, or `NodeBusy` when too many chunks are waited for.
    func fetch(_ id: ChunkID, flist: FlistDigest?, priority: FetchPriority) async throws -> Delivery {
        while true {
            if parts.store.contains(id), let chunk = try await readStored(id) {
                return Delivery(chunk: chunk, origin: .local, isStored: true)
            }
            if let delivery = try await wait(for: id, flist: flist, priority: priority) { return delivery }
        }
    }

    /// Makes sure that the chunk is in the cache; does not read it when it is.
    func ensure(_ id: ChunkID, flist: FlistDigest?, priority: FetchPriority) async throws -> ChunkOrigin {
        while true {
            if parts.store.contains(id) { return .local }
            if let delivery = try await wait(for: id, flist: flist, priority: priority) {
                guard delivery.isStored else {
                    throw FetchFailure.unreachable("the cache has no room for more chunks; raise cache.maxSize or free space")
                }
                return delivery.origin
            }
        }
    }

    private func readStored(_ id: ChunkID) async throws -> Chunk? {
        let chunk = try await parts.threads.run { [parts] in try parts.store.read(id, into: parts.pool) }
        if let chunk { parts.counters.arrived(from: .local, bytes: chunk.byteCount) }
        return chunk
    }

    /// - Returns: `nil` when the chunk came into the cache in the meantime.
    private func wait(for id: ChunkID, flist: FlistDigest?, priority: FetchPriority) async throws -> Delivery? {
        let waiter = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Delivery?, any Error>) in
                register(waiter, id, flist: flist, priority: priority) {
                    continuation.resume(with: $0.map { Optional($0) })
                } orAlready: {
                    continuation.resume(returning: nil)
                }
            }
        } onCancel: {
            let given = step { state, now, view -> Waiter? in
                guard let index = state.waiters[id]?.firstIndex(where: { $0.id == waiter }) else { return nil }
                let found = state.waiters[id]!.remove(at: index)
                if state.waiters[id]!.isEmpty { state.waiters[id] = nil }
                state.outbox += state.planner.abandon(id, forPeer: false, now: now, view: view)
                return found
            }
            given?.resume(.failure(CancellationError()))
        }
    }

    private func register(
        _ waiter: UInt64, _ id: ChunkID, flist: FlistDigest?, priority: FetchPriority,
        resume: @escaping @Sendable (Result<Delivery, any Error>) -> Void, orAlready: () -> Void
    ) {
        enum Outcome { case waiting, already, busy, cancelled }
        let outcome: Outcome = step { state, now, view in
            // What arrives later takes this lock and sees the waiter.
            if parts.store.contains(id) { return .already }
            if Task.isCancelled || state.isStopped { return .cancelled }
            guard let actions = state.planner.want(id, flist: flist, priority: priority, now: now, view: view) else { return .busy }
            state.waiters[id, default: []].append(Waiter(id: waiter, resume: resume))
            state.outbox += actions
            return .waiting
        }
        switch outcome {
        case .waiting: break
        case .already: orAlready()
        case .busy: resume(.failure(FetchFailure.unreachable("this node waits for too many chunks; try again later")))
        case .cancelled: resume(.failure(CancellationError()))
        }
    }

    // MARK: Arrivals

    /// A chunk is here: the peers that wait for it need not wait for this node's disk.
    func pass(on chunk: Chunk) {
        let responders = state.withLock { state in
            let responders = state.responders.removeValue(forKey: chunk.id) ?? []
            for responder in responders { state.asked[responder.id] = nil }
            return responders
        }
        answer(responders, with: chunk, isStored: false)
    }

    /// A chunk is here: stores it, tells the site, wakes everybody. Blocking: on a thread for the disk.
    func arrived(_ chunk: Chunk, from origin: ChunkOrigin) {
        let outcome = parts.store.insert(chunk)
        var isStored = true
        if case .notStored(let reason) = outcome {
            isStored = false
            parts.counters.add { $0.notStored += 1 }
            // The cache tells it, once.
            parts.logger.debug("chunk used without storing it", metadata: ["reason": "\(reason)"])
        }
        parts.counters.arrived(from: origin, bytes: chunk.byteCount)
        if isStored { parts.announceHolding(of: chunk.id) }
        let (waiters, responders) = step { state, now, view in
            let waiters = state.waiters.removeValue(forKey: chunk.id) ?? []
            let responders = state.responders.removeValue(forKey: chunk.id) ?? []
            for responder in responders { state.asked[responder.id] = nil }
            state.outbox += state.planner.arrived(chunk.id, now: now, view: view)
            return (waiters, responders)
        }
        let delivery = Delivery(chunk: chunk, origin: origin, isStored: isStored)
        for waiter in waiters { waiter.resume(.success(delivery)) }
        answer(responders, with: chunk, isStored: isStored)
    }

    private func answer(_ responders: [PeerResponder], with chunk: Chunk, isStored: Bool) {
        guard !responders.isEmpty else { return }
        let open = isStored ? try? parts.store.open(chunk.id) : nil
        for responder in responders {
            parts.counters.add { $0.toPeers.add(chunk.byteCount) }
            if let open, let descriptor = open.duplicate() {
                responder.sendFile(descriptor, length: open.size)
            } else {
                responder.sendBuffer(chunk.buffer)
            }
        }
    }

    // MARK: The planner

    /// Changes the state under the lock, then carries out what the planner wants, in order, without it.
    func step<R>(_ body: (inout State, Duration, SiteView) -> R) -> R {
        let view = view
        let (result, drains) = state.withLock { state in
            let result = body(&state, view.now, view)
            let drains = !state.isDraining && !state.outbox.isEmpty
            if drains { state.isDraining = true }
            return (result, drains)
        }
        if drains { drain() }
        return result
    }

    private func drain() {
        while true {
            let actions = state.withLock { state in
                defer { state.outbox = [] }
                if state.outbox.isEmpty { state.isDraining = false }
                return state.outbox
            }
            if actions.isEmpty { return }
            for action in actions { perform(action) }
        }
    }

    /// The mesh has changed, or time has passed.
    func tick() {
        if let (flists, sites) = parts.sites.due(now: parts.clock.now) {
            parts.gossip.perform { $0.seek(flists, at: sites, now: $1) }
        }
        let (places, gate) = (upstreamPlaces(), parts.line.gate)
        let late = step { state, now, view in
            if state.planner.lineGate != gate { state.outbox += state.planner.setLineGate(gate, now: now, view: view) }
            if state.planner.upstreamPlaces != places {
                state.outbox += state.planner.setUpstreamPlaces(places, now: now, view: view)
            }
            state.outbox += state.planner.tick(now: now, view: view)
            let isOpening = parts.flists.isOpening
            let late = state.early.values.filter { $0.until + (isOpening ? Self.openingGrace : .zero) <= now }
            for request in late { state.early[request.responder.id] = nil }
            return late
        }
        for request in late { request.responder.refused(.declined) }
    }

    /// What the line to upstream is open for from now on.
    func setLineGate(_ gate: LineGate) {
        step { state, now, view in state.outbox += state.planner.setLineGate(gate, now: now, view: view) }
    }

    /// Nothing is fetched any more; who waits is told so.
    func stop() {
        let (waiters, tasks) = state.withLock { state in
            state.isStopped = true
            defer { (state.waiters, state.upstream) = ([:], [:]) }
            return (state.waiters.values.flatMap { $0 }, state.upstream.values.compactMap(\.task))
        }
        for task in tasks { task.cancel() }
        for waiter in waiters { waiter.resume(.failure(CancellationError())) }
    }

    /// When `tick` is due.
    var nextTick: Duration? {
        let now = parts.clock.now
        return state.withLock { state in
            let early = state.early.isEmpty ? nil : now + .milliseconds(100)
            return [state.planner.nextDeadline(now: now), early].compactMap { $0 }.min()
        }
    }

    /// This node's share of the requests that the site may keep open at upstream.
    private func upstreamPlaces() -> Int { max(1, parts.upstreamConcurrency.value / parts.fetchingNodes) }
}
