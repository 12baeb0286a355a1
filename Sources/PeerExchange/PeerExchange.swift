public import ChunkModel
internal import CLinux
internal import Glibc
public import Logging
public import MeshKeys
public import PeerProtocol
internal import Synchronization

/// Asks other nodes for chunks, pieces of flists and small messages over TCP, and answers theirs.
///
/// One connection is dialled to each peer when it is first needed; requests are pipelined on it. Bulk bytes are received straight
/// into pooled buffers and sent by `sendfile`. Nothing is hashed here: received data is not verified.
public final class PeerExchange: Sendable {
    private enum State {
        /// Becomes `running` by `start`.
        case idle
        /// Becomes `stopped` by `stop`.
        case running([IOThread], port: UInt16)
        case stopped
    }

    private let shared: ExchangeShared
    private let state = Mutex(State.idle)

    /// - Parameter keys: the mesh keys; `nil` means loopback only, with whoever is there.
    public init(
        configuration: ExchangeConfiguration, identity: NodeIdentity, keys: MeshKeyRing?, handler: any PeerRequestHandler,
        pool: ChunkBufferPool, logger: Logger
    ) {
        shared = ExchangeShared(
            configuration: configuration, identity: identity, keys: keys, handler: handler, pool: pool, logger: logger)
    }

    deinit { stop() }

    /// Binds the addresses and starts the threads; may be called once.
    public func start() throws(ExchangeStartError) {
        let (listeners, port) = try bindAll()
        let roster = Roster()
        var threads: [IOThread] = []
        do throws(ExchangeStartError) {
            for i in 0..<max(1, shared.configuration.threads) {
                threads.append(
                    try IOThread(shared: shared, listeners: i == 0 ? listeners : []) { turn in roster.thread(turn) })
            }
            roster.set(threads)
            for thread in threads { try thread.start() }
        } catch {
            for thread in threads { _ = thread.post(.stop) }
            for thread in threads { thread.join() }
            roster.set([])
            throw error
        }
        state.withLock { $0 = .running(threads, port: port) }
    }

    /// Ends every request and connection and joins the threads; not to be called from an event or a handler. Descriptors are closed
    /// when it returns.
    public func stop() {
        let threads = state.withLock { state -> [IOThread] in
            defer { state = .stopped }
            if case .running(let threads, _) = state { return threads }
            return []
        }
        for thread in threads { _ = thread.post(.stop) }
        for thread in threads { thread.join() }
    }

    /// The TCP port that peers dial; `nil` unless running.
    public var boundPort: UInt16? {
        state.withLock { if case .running(_, let port) = $0 { port } else { nil } }
    }

    /// Asks a peer. `onEvent` is called on an I/O thread (on the caller's when the exchange does not run) and must not block; exactly
    /// one final event comes, whatever happens.
    ///
    /// - Parameters:
    ///   - peer: whose identity the other end has to prove; `NodeID.unknown(at:)` takes any node that holds the mesh key.
    ///   - address: where the peer is dialled when there is no connection to it yet.
    @discardableResult
    public func send(
        _ request: PeerRequest, to peer: NodeID, at address: NodeAddress, deadline: Duration,
        onEvent: @escaping @Sendable (PeerResponse) -> Void
    ) -> RequestID {
        let token = shared.nextKey()
        let end = Socket.now() + deadline.nanoseconds
        let posted = thread(of: peer)?.post(.send(token, request, peer, address, deadline: end, onEvent)) ?? false
        if !posted { onEvent(.failed(.stopped)) }
        return RequestID(raw: token)
    }

    /// Gives a request up: it ends with `.failed(.cancelled)`, unless it has ended.
    public func cancel(_ id: RequestID) {
        for thread in threads { _ = thread.post(.cancel(id.raw)) }
    }

    /// Closes the connection dialled to a peer; its requests end with `.failed(.closed)`.
    public func disconnect(_ peer: NodeID) { _ = thread(of: peer)?.post(.disconnect(peer)) }

    /// Other limits from now on.
    public func setLimits(_ limits: ExchangeLimits) {
        shared.sendLimit.set(bitsPerSecond: limits.send)
        shared.receiveLimit.set(bitsPerSecond: limits.receive)
    }

    /// The figures of every peer since the start.
    public var traffic: [NodeID: PeerTraffic] { shared.traffic.snapshot }

    /// What was not let in.
    public var strangers: StrangerCounters { shared.strangers }

    /// Other mesh keys from now on. Connections made under a key that is gone are closed when they rest, after half a minute at the
    /// latest. Without effect on a node that has none.
    public func setRing(_ ring: MeshKeyRing) { if !shared.isOpen { shared.setRing(ring) } }

    /// Who is a member from now on: others are neither dialled nor served, and their connections are closed.
    public func setGate(_ gate: MemberGate) {
        shared.setMembers(gate)
        for thread in threads { _ = thread.post(.reviewMembers) }
    }

    private var threads: [IOThread] {
        state.withLock { if case .running(let threads, _) = $0 { threads } else { [] } }
    }

    private func thread(of peer: NodeID) -> IOThread? {
        let threads = threads
        return threads.isEmpty ? nil : threads[Int(peer.value.prefix64 % UInt64(threads.count))]
    }

    // MARK: Binding

    private func bindAll() throws(ExchangeStartError) -> (listeners: [Int32], port: UInt16) {
        var wanted = shared.configuration.listen
        if shared.isOpen {
            let port = wanted.first?.port ?? 0
            let loopback = [[127, 0, 0, 1], [UInt8](repeating: 0, count: 15) + [1]]
            wanted = loopback.compactMap { NodeAddress(ip: $0, port: port) }
        }
        // With port 0 the first address picks a port that another program may hold on the second.
        let attempts = 8
        for attempt in 1...attempts {
            do throws(ExchangeStartError) {
                return try bindOnce(wanted)
            } catch {
                guard attempt < attempts, wanted.allSatisfy({ $0.port == 0 }) else { throw error }
            }
        }
        throw ExchangeStartError(description: "no address to listen on")
    }

    private func bindOnce(_ wanted: [NodeAddress]) throws(ExchangeStartError) -> (listeners: [Int32], port: UInt16) {
        var listeners: [Int32] = []
        var port: UInt16 = 0
        var problem = "no address to listen on is configured; set mesh.listen"
        for address in wanted {
            guard let address = NodeAddress(ip: address.ip, port: address.port == 0 ? port : address.port) else { continue }
            let fd = Socket.open(address)
            if fd >= 0 {
                Socket.set(fd, SOL_SOCKET, SO_REUSEADDR, 1)
                if address.isIPv6 { Socket.set(fd, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1) }
                if Socket.withAddress(address, { bind(fd, $0, $1) }) == 0, listen(fd, ExchangeConfiguration.acceptBacklog) == 0 {
                    listeners.append(fd)
                    port = Socket.boundPort(fd)
                    continue
                }
            }
            let error = errno
            if fd >= 0 { close(fd) }
            problem = "cannot listen on \(address): \(Socket.text(error))"
            // A machine without IPv6 (or IPv4) uses the other; anything else is the user's to solve.
            if error == EAFNOSUPPORT || error == EADDRNOTAVAIL { continue }
            if error == EADDRINUSE {
                problem = "cannot listen on TCP \(address): the port is in use; stop the other program or set mesh.listen"
            }
            if error == EACCES { problem += "; ports below 1024 need root" }
            for fd in listeners { close(fd) }
            throw ExchangeStartError(description: problem)
        }
        guard !listeners.isEmpty else { throw ExchangeStartError(description: problem) }
        return (listeners, port)
    }
}

/// The threads among which accepted connections are spread. Emptied with the last of them, so that they do not keep each other.
private final class Roster: Sendable {
    private final class Weak: @unchecked Sendable {
        weak let thread: IOThread?
        init(_ thread: IOThread) { self.thread = thread }
    }
    private let threads = Mutex<[Weak]>([])

    func set(_ new: [IOThread]) { threads.withLock { $0 = new.map(Weak.init) } }
    func thread(_ turn: Int) -> IOThread? {
        threads.withLock { $0.isEmpty ? nil : $0[Int(UInt(bitPattern: turn) % UInt($0.count))].thread }
    }
}
