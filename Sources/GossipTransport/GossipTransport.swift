internal import ChunkModel
public import Gossip
public import Logging
public import MeshKeys
internal import NIOCore
internal import NIOPosix
internal import Synchronization

/// The shell around `GossipMachine`: UDP sockets, seals, timers, seeds and multicast. `run()` is the whole life of it; everything else may
/// be called from any thread at any time, also before.
///
/// The machine changes under a lock; what it asks for is done outside it. Datagrams wait in the sockets' buffers only (bounded by the
/// kernel, which drops what does not fit).
public final class GossipTransport: Sendable {
    /// Carries a state exchange to another node by a reliable stream (`GossipMachine.receiveStateRequest` there) and returns the answer;
    /// `nil` when that failed, whereupon datagrams are used.
    public typealias SendState = @Sendable (NodeID, NodeAddress, [UInt8]) async -> [UInt8]?

    /// State exchanges under way by stream; further ones fail at once, and datagrams are used.
    public static let maxExchanges = 8
    /// Events kept for a slow reader; then the oldest are dropped and counted. The machine's properties hold the truth.
    public static let maxEvents = 4_096
    /// How long a goodbye may take.
    public static let leaveTime: UInt64 = 1_000_000_000

    struct State {
        var machine: GossipMachine
        var seal: DatagramSeal
        var limit: ForeignLimit
        var counters = GossipTransportCounters()
        var channel4: (any Channel)?
        var channel6: (any Channel)?
        var localAddress: NodeAddress?
        var timerAt: UInt64 = .max
        var exchanges = 0
        /// Interface of link-local addresses, as datagrams came from them; bounded by `maxScopes`.
        var scopes: [NodeAddress: UInt32] = [:]
    }
    struct Exchange: Sendable {
        let node: NodeID
        let address: NodeAddress
        let request: [UInt8]
    }
    static let maxScopes = 1_024

    let configuration: GossipTransportConfiguration
    let logger: Logger
    let hasKey: Bool
    let group: any EventLoopGroup
    let loop: any EventLoop
    let threads: NIOThreadPool
    let state: Mutex<State>
    private let floodLog = LogPause()
    private let sendState: SendState?
    private let exchanges: AsyncStream<Exchange>
    private let exchangeInput: AsyncStream<Exchange>.Continuation
    /// What happened, for one reader. Bounded by `maxEvents`.
    public let events: AsyncStream<GossipEvent>
    private let eventInput: AsyncStream<GossipEvent>.Continuation

    /// - Parameters:
    ///   - identity: signs what this node says of itself.
    ///   - ring: `nil` keeps the node on loopback, where datagrams are sealed with a key of zeros.
    ///   - incarnation: higher than in any earlier run of this node: seconds of the wall clock.
    public init(
        configuration: GossipTransportConfiguration, identity: NodeIdentity, name: String, site: String, incarnation: UInt64,
        ring: MeshKeyRing?, gossip: GossipConfiguration = GossipConfiguration(), logger: Logger, sendState: SendState? = nil
    ) throws {
        var configuration = configuration
        if ring == nil {
            if configuration.listen.isUnspecified, let loopback = NodeAddress(ip: [127, 0, 0, 1], port: configuration.listen.port) {
                configuration.listen = loopback
            }
            guard configuration.listen.isLoopback else { throw GossipTransportError.noKeyBeyondLoopback(configuration.listen) }
        }
        self.configuration = configuration
        self.logger = logger
        hasKey = ring != nil
        group = NIOSingletons.posixEventLoopGroup
        loop = group.next()
        threads = NIOSingletons.posixBlockingThreadPool
        self.sendState = sendState
        (exchanges, exchangeInput) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(Self.maxExchanges))
        (events, eventInput) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(Self.maxEvents))
        let me = Member(
            id: identity.id, name: name, site: site, address: configuration.advertise ?? configuration.listen, incarnation: incarnation)
        let seed = UInt64(littleEndianBytes: Sodium.randomBytes(8))
        // A ring of one key of the right size is never refused.
        let ring = ring ?? MeshKeyRing(keys: [[UInt8](repeating: 0, count: MeshKeyRing.keyBytes)])!
        state = Mutex(
            State(
                machine: GossipMachine(
                    me: me, configuration: gossip, signing: MemberSigning(identity: identity), seed: seed, now: Self.now),
                seal: DatagramSeal(ring: ring), limit: ForeignLimit(acceptedPerSecond: configuration.datagramsPerSecond)))
    }

    static var now: UInt64 { NIODeadline.now().uptimeNanoseconds }

    // MARK: For the node

    /// Reads or changes the machine; keep `body` short, since datagrams wait for it. Directives that it returns are carried out.
    public func withMachine<T: Sendable>(_ body: (inout GossipMachine, _ now: UInt64) throws -> T) rethrows -> T {
        let result = try state.withLock { try body(&$0.machine, Self.now) }
        schedule()
        return result
    }

    /// Gives the machine an input and does what it asks for.
    public func perform(_ input: (inout GossipMachine, _ now: UInt64) -> [GossipDirective]) {
        carryOut(state.withLock { input(&$0.machine, Self.now) })
        schedule()
    }

    /// All members, dead ones too, without this node.
    public func members() -> [Member] { state.withLock { Array($0.machine.members.values) } }
    public func counters() -> (machine: GossipCounters, transport: GossipTransportCounters) {
        state.withLock { ($0.machine.counters, $0.counters) }
    }
    /// Where datagrams are received, with the real port; `nil` before `run()` got that far.
    public var localAddress: NodeAddress? { state.withLock { $0.localAddress } }

    /// Whether this node was told where others may be: seeds, or to look for them on the LAN.
    public var looksForOthers: Bool { configuration.multicast || !configuration.seeds.isEmpty }

    /// A connection to the node was refused or timed out.
    public func noteUnreachable(_ node: NodeID) { perform { $0.noteUnreachable(node, now: $1) } }

    /// The other side of `SendState`: answers a request that came by stream.
    /// - Parameters:
    ///   - from: address of the asker with its gossip port, if known.
    ///   - asker: who asks, where the stream proved it: a request in another's name is not answered then.
    /// - Returns: the answer, and whether the request made sense and was the asker's own.
    public func receiveState(_ request: [UInt8], from: NodeAddress? = nil, asker: NodeID? = nil) -> (reply: [UInt8], isSound: Bool) {
        let (reply, directives, isSound) = state.withLock { state in
            func faults() -> UInt64 { state.machine.counters.malformed &+ state.machine.counters.forged }
            let before = faults()
            let (reply, directives) = state.machine.receiveStateRequest(request, from: from, asker: asker, now: Self.now)
            return (reply, directives, faults() == before)
        }
        carryOut(directives)
        schedule()
        return (reply, isSound)
    }

    // MARK: Life

    /// Listens, joins, and gossips until the task is cancelled; then says goodbye for at most `leaveTime` and closes.
    public func run() async throws {
        let channels = try await listen()
        logger.info("gossip listens", metadata: ["address": "\(localAddress.map { "\($0)" } ?? "?")", "sealed": "\(hasKey)"])
        schedule()
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await self.resolveSeeds() }
            if configuration.multicast { tasks.addTask { await self.discover() } }
            tasks.addTask { await self.exchangeStates() }
            tasks.addTask { await self.watchAddress() }
        }
        perform { $0.leave(now: $1) }
        // Not a task's sleep, which a cancelled task doesn't get.
        let end = Self.now &+ Self.leaveTime
        while Self.now < end, !state.withLock({ $0.machine.hasLeft }) {
            _ = try? await loop.scheduleTask(in: .milliseconds(20)) {}.futureResult.get()
        }
        state.withLock { ($0.channel4, $0.channel6) = (nil, nil) }
        for channel in channels { try? await channel.close() }
        eventInput.finish()
    }

    private func resolveSeeds() async {
        var delay: UInt64 = 1
        while !Task.isCancelled, !configuration.seeds.isEmpty {
            let isAlone = state.withLock { state in !state.machine.members.values.contains { $0.state.isLive } }
            if isAlone {
                let seeds = configuration.seeds
                let found = try? await threads.runIfActive { seeds.map { NameResolver.resolve($0) } }
                for (seed, addresses) in zip(seeds, found ?? []) where addresses.isEmpty {
                    logger.warning("seed has no address now", metadata: ["seed": "\(seed)"])
                }
                let addresses = (found ?? []).flatMap { $0 }.filter { hasKey || $0.isLoopback }
                perform { $0.join(addresses, now: $1) }
            }
            // The machine itself asks the known addresses again; names only need a look now and then.
            do { try await Task.sleep(for: .seconds(delay)) } catch { return }
            delay = isAlone ? min(delay * 2, 30) : 30
        }
    }

    private func exchangeStates() async {
        await withTaskGroup(of: Void.self) { tasks in
            for await exchange in exchanges {
                tasks.addTask {
                    let reply = await self.sendState?(exchange.node, exchange.address, exchange.request)
                    self.state.withLock { $0.exchanges -= 1 }
                    self.perform { machine, now in
                        guard let reply else { return machine.stateExchangeFailed(at: exchange.address, now: now) }
                        return machine.receiveStateReply(reply, from: exchange.address, now: now)
                    }
                }
            }
        }
    }

    // MARK: Doing what the machine asks for

    func carryOut(_ directives: [GossipDirective]) {
        for directive in directives {
            switch directive {
            case .send(let address, let bytes):
                for sealed in state.withLock({ Self.sealed(bytes, for: address, &$0) }) { send(sealed, to: address) }
            case .exchangeState(let node, let address, let request):
                let starts = state.withLock { state in
                    guard sendState != nil, state.exchanges < Self.maxExchanges else {
                        if sendState != nil { state.counters.exchangesRefused += 1 }
                        return false
                    }
                    state.exchanges += 1
                    return true
                }
                if starts {
                    exchangeInput.yield(Exchange(node: node, address: address, request: request))
                } else {
                    perform { $0.stateExchangeFailed(at: address, now: $1) }
                }
            case .event(let event):
                if case .dropped = eventInput.yield(event) { state.withLock { $0.counters.eventsDropped += 1 } }
            }
        }
    }

    /// The datagram; twice, under both keys, for who may not have the one that seals here yet.
    private static func sealed(_ bytes: [UInt8], for address: NodeAddress, _ state: inout State) -> [[UInt8]] {
        let first = state.seal.ring.fingerprints[0]
        guard let older = state.limit.olderKey(of: address, sealing: first, now: now), state.seal.ring.fingerprints.contains(older) else {
            return [state.seal.seal(bytes)]
        }
        return [state.seal.seal(bytes), state.seal.seal(bytes, with: older)]
    }

    /// Sees to it that the machine's next tick comes in time.
    private func schedule() {
        let due = state.withLock { state -> UInt64? in
            guard state.localAddress != nil else { return nil }
            let at = state.machine.nextDeadline
            guard at < state.timerAt else { return nil }
            state.timerAt = at
            return at
        }
        guard let due else { return }
        loop.scheduleTask(deadline: NIODeadline.uptimeNanoseconds(max(due, Self.now))) { self.timerFired(due) }
    }

    private func timerFired(_ due: UInt64) {
        let directives = state.withLock { state -> [GossipDirective] in
            // An earlier timer was set meanwhile: that one ticks.
            guard state.timerAt == due, state.channel4 != nil || state.channel6 != nil else { return [] }
            state.timerAt = .max
            return state.machine.tick(now: Self.now)
        }
        carryOut(directives)
        schedule()
    }

    func receive(_ bytes: [UInt8], from: NodeAddress, scope: UInt32) {
        let now = Self.now
        let (directives, answer, floods) = state.withLock { state -> ([GossipDirective], [UInt8]?, Bool) in
            state.counters.datagramsReceived += 1
            state.counters.bytesReceived += UInt64(bytes.count)
            var only: MeshKeyFingerprint?
            switch state.limit.verdict(on: from, now: now) {
            case .tryAll: break
            case .tryOne(let key): only = key
            case .drop:
                state.counters.limited += 1
                return ([], nil, false)
            case .flood:
                state.counters.flooded += 1
                return ([], nil, true)
            }
            switch state.seal.open(bytes, from: from, only: only, now: now) {
            case .accept(let payloads, let key):
                state.limit.noteAccepted(from, key: key, now: now)
                if scope != 0, state.scopes.count < Self.maxScopes || state.scopes[from] != nil { state.scopes[from] = scope }
                return (payloads.flatMap { state.machine.receive($0, from: from, now: now) }, nil, false)
            case .answer(let answer):
                state.counters.held += 1
                state.limit.noteFailed(from)
                if scope != 0, state.scopes.count < Self.maxScopes || state.scopes[from] != nil { state.scopes[from] = scope }
                return ([], answer, false)
            case .held:
                state.counters.held += 1
                state.limit.noteFailed(from)
            case .replayed:
                state.counters.replayed += 1
                state.limit.noteFailed(from)
            case .foreign:
                state.counters.foreign += 1
                state.limit.noteFailed(from)
            case .own: break
            }
            return ([], nil, false)
        }
        if floods, floodLog.due(now: now) != nil {
            logger.warning(
                "a member floods this node with datagrams; the rest of each second is dropped",
                metadata: ["address": "\(from)", "peer": "\(memberName(at: from))"])
        }
        if let answer { send(answer, to: from) }
        carryOut(directives)
        schedule()
    }

    private func memberName(at address: NodeAddress) -> String {
        state.withLock { state in state.machine.members.values.first { $0.address == address }?.name ?? "unknown" }
    }

    // MARK: Keys

    /// Other mesh keys from now on: all open, the first one seals. Without effect on a node that has none.
    public func setRing(_ ring: MeshKeyRing) {
        guard hasKey else { return }
        state.withLock { $0.seal.setRing(ring) }
    }
}
