internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import Glibc
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import NodeConfiguration
internal import PeerExchange
internal import PeerProtocol
internal import Synchronization

/// What the parts of a node share.
struct NodeParts: Sendable {
    let identity: NodeIdentity
    let clock: NodeClock
    let store: ChunkStore
    let gossip: GossipTransport
    let flists: FlistTable
    let upstream: UpstreamState
    let sites: OtherSites
    let line: LineKeeper
    let trust: FlistTrust
    let counters: NodeCounters
    /// For verifying, decoding, files and SQLite.
    let threads: BlockingThreads
    let pool: ChunkBufferPool
    /// Requests that the whole site may keep open at upstream.
    let upstreamConcurrency: Setting<Int>
    let ticker: Wakeup
    let standstill = Standstill()
    /// What this node does for its neighbours.
    let mode: Configuration.LAN.Mode
    let logger: Logger
    /// For storing chunks: a slow disk holds up neither what is verified nor what is sent.
    let disk = BlockingThreads(count: 2)
    /// Copies that the site keeps of flists.
    let goals = GoalTable()

    /// The mesh as the planner sees it now.
    var view: SiteView {
        let now = clock.now
        return SiteView(
            gossip: gossip, flists: flists, upstream: upstream, others: sites, me: identity.id, now: now, isFresh: standstill.isFresh(now),
            keepsApart: mode != .both, wake: { [ticker] in ticker.wake() })
    }

    /// Something became due earlier than the ticker knows.
    func wakeTicker() { ticker.wake() }

    /// Nodes of the site that may fetch from upstream, this one included.
    var fetchingNodes: Int {
        gossip.read { machine, _ in machine.liveOthers.count { machine.profile(of: $0.id)?.reachesUpstream == true } + 1 }
    }

    /// Tells the mesh whether the chunk is here, and others may count on it. Comings and goings of one chunk may overlap: looked at again after it was told, so
    /// that the last word is right.
    func announceHolding(of chunk: ChunkID) {
        let places = flists.places(of: chunk)
        // What is not given away is not announced.
        guard !places.isEmpty, mode != .fetch else { return }
        var isHeld: Bool
        repeat {
            isHeld = store.isOffered(chunk)
            gossip.change { [isHeld] machine, _ in
                for (digest, index) in places {
                    if isHeld { machine.setHave(digest, [index]) } else { machine.clearHave(digest, [index]) }
                }
            }
        } while store.isOffered(chunk) != isHeld
    }

    /// Tells the site whether this node reaches upstream and may ask other sites, and what it pulled.
    func profileChanged() {
        let profile = NodeProfile(
            reachesUpstream: mode == .both && upstream.isUp(now: clock.now), upstreamBytes: counters.snapshot.upstream.bytes,
            asksSites: mode == .both && !sites.isNone, keepsApart: mode != .both)
        gossip.change { machine, _ in _ = machine.setFact(MeshFacts.profileKey, profile.encoded) }
    }
}

/// A value that a reload may change.
final class Setting<Value: Sendable>: Sendable {
    private let current: Mutex<Value>
    init(_ value: Value) { current = Mutex(value) }
    var value: Value {
        get { current.withLock { $0 } }
        set { current.withLock { $0 = newValue } }
    }
}

/// The exchange needs its request handler first, and the handler needs the exchange: it is put in before anything runs.
final class LateExchange: Sendable {
    private let exchange = Mutex<PeerExchange?>(nil)
    var value: PeerExchange? { exchange.withLock { $0 } }
    func set(_ new: PeerExchange) { exchange.withLock { $0 = new } }

    /// Gossip's state exchange over a stream; `nil` when it failed.
    func exchangeState(_ bytes: [UInt8], with node: NodeID, at address: NodeAddress) async -> [UInt8]? {
        let request = PeerRequest(.message(kind: MessageKind.state.rawValue, payload: bytes), priority: .foreground)
        guard case .message(let reply) = await ask(request, node, at: address, deadline: .seconds(10)) else { return nil }
        return reply
    }
}

/// Lets one task sleep until it is woken or its time comes; further wake-ups meanwhile are one.
final class Wakeup: Sendable {
    private struct State {
        var isWoken = false
        var sleeper: CheckedContinuation<Void, Never>?
        /// Counts the sleeps, so that a late timer does not end the next one.
        var turn: UInt64 = 0
    }
    private let state = Mutex(State())

    func wake() { end(turn: nil) }

    /// Returns when woken (also when that happened since the last sleep), after `time`, or when the task is cancelled.
    func sleep(_ time: Duration) async {
        let turn = state.withLock { state in
            state.turn += 1
            return state.turn
        }
        let timer = Task { [weak self] in
            try? await Task.sleep(for: time)
            self?.end(turn: turn)
        }
        defer { timer.cancel() }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isDue = state.withLock { state in
                    defer { state.isWoken = false }
                    if state.isWoken || Task.isCancelled { return true }
                    state.sleeper = continuation
                    return false
                }
                if isDue { continuation.resume() }
            }
        } onCancel: {
            wake()
        }
    }

    private func end(turn: UInt64?) {
        let sleeper = state.withLock { state -> CheckedContinuation<Void, Never>? in
            if let turn, turn != state.turn { return nil }
            guard let sleeper = state.sleeper else {
                state.isWoken = true
                return nil
            }
            state.sleeper = nil
            return sleeper
        }
        sleeper?.resume()
    }
}

extension OpenChunk {
    /// A descriptor that its receiver closes; `nil` when the process has none left.
    func duplicate() -> Int32? {
        let copy = fcntl(fileDescriptor, F_DUPFD_CLOEXEC, 0)
        return copy >= 0 ? copy : nil
    }
}
