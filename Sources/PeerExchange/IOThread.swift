internal import CLinux
internal import ChunkModel
internal import Glibc
internal import Logging
internal import MeshKeys
internal import PeerProtocol
internal import Synchronization

/// A thread that moves the bytes of its connections. Everything but `post` and `start`/`join` belongs to the thread itself.
final class IOThread: @unchecked Sendable {
    /// What others ask of the thread.
    enum Command: Sendable {
        case send(UInt64, PeerRequest, NodeID, NodeAddress, deadline: UInt64, @Sendable (PeerResponse) -> Void)
        case cancel(UInt64)
        case disconnect(NodeID)
        case adopt(fd: Int32, NodeAddress, ticket: UInt64)
        case reviewMembers
        case answer(connection: UInt64, request: UInt32, Reply)
        case stop
    }

    private struct Inbox {
        var commands: [Command] = []
        var isAsleep = false
        var isClosed = false
    }

    private struct Listener {
        let fd: Int32
        var hasMore = false
    }

    private static let wakeKey: UInt64 = 0
    private static let firstListenerKey: UInt64 = 1

    let shared: ExchangeShared
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: ExchangeConfiguration.controlReadBytes, alignment: 64)
    /// Where sealed bulk bytes are read to; made when there are any.
    private(set) lazy var sealedScratch = UnsafeMutableRawBufferPointer.allocate(
        byteCount: ExchangeConfiguration.sealedReadBytes, alignment: 64)
    private var hasSealedScratch = false
    var scratchForSealed: UnsafeMutableRawBufferPointer {
        hasSealedScratch = true
        return sealedScratch
    }
    private let inbox = Mutex(Inbox())
    private let epoll: Int32
    private let wakeup: Int32
    private var handle: pthread_t?

    private(set) var now: UInt64 = Socket.now()
    private var connections: [UInt64: Connection] = [:]
    private var clients: [NodeID: ClientConnection] = [:]
    /// Which connection has a request.
    var owners: [UInt64: ClientConnection] = [:]
    private var turns: [Connection] = []
    /// Connections that the node's own limits hold back, and when they ask again.
    private var held: [Connection] = []
    private var releaseAt: UInt64 = .max
    private var listeners: [Listener]
    private let siblings: @Sendable (Int) -> IOThread?
    private var accepted = 0
    private var nextTick: UInt64 = 0
    private var isStopping = false

    /// - Parameter siblings: the thread that takes the n-th accepted connection.
    init(shared: ExchangeShared, listeners: [Int32], siblings: @escaping @Sendable (Int) -> IOThread?) throws(ExchangeStartError) {
        self.shared = shared
        self.siblings = siblings
        self.listeners = listeners.map { Listener(fd: $0) }
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        wakeup = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard epoll >= 0, wakeup >= 0 else {
            throw ExchangeStartError(
                description: "the exchange could not get descriptors (\(Socket.text(errno))); raise the limit of open files")
        }
        watch(wakeup, Self.wakeKey, EPOLLIN.rawValue | EPOLLET.rawValue)
        for (i, listener) in listeners.enumerated() {
            watch(listener, Self.firstListenerKey + UInt64(i), EPOLLIN.rawValue | EPOLLET.rawValue)
        }
    }

    deinit {
        scratch.deallocate()
        if hasSealedScratch { sealedScratch.deallocate() }
        if epoll >= 0 { close(epoll) }
        if wakeup >= 0 { close(wakeup) }
    }

    private func watch(_ fd: Int32, _ key: UInt64, _ events: UInt32) {
        var event = epoll_event()
        event.events = events
        event.data.u64 = key
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)
    }

    func start() throws(ExchangeStartError) {
        let box = Unmanaged.passRetained(self)
        var thread = pthread_t()
        let failed = pthread_create(&thread, nil, { runIOThread($0) }, box.toOpaque())
        guard failed == 0 else {
            box.release()
            throw ExchangeStartError(description: "the exchange could not start a thread: \(Socket.text(failed))")
        }
        handle = thread
    }

    func join() {
        if let handle { pthread_join(handle, nil) }
        handle = nil
    }

    /// From any thread. `false` when the thread has ended or will end before it looks.
    func post(_ command: Command) -> Bool {
        let (taken, wake) = inbox.withLock { inbox in
            guard !inbox.isClosed else { return (false, false) }
            inbox.commands.append(command)
            defer { inbox.isAsleep = false }
            return (true, inbox.isAsleep)
        }
        if wake { eventfd_write(wakeup, 1) }
        return taken
    }

    // MARK: The loop

    fileprivate func run() {
        // `sendfile` has no flag against SIGPIPE, which would end the process when a peer hangs up.
        var pipeSignal = sigset_t()
        sigemptyset(&pipeSignal)
        sigaddset(&pipeSignal, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &pipeSignal, nil)
        let capacity = 256
        let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: capacity)
        defer { events.deallocate() }
        while !isStopping {
            let count = epoll_wait(epoll, events, Int32(capacity), sleepMilliseconds())
            now = Socket.now()
            for i in 0..<Int(max(count, 0)) { take(events[i]) }
            acceptAll()
            takeCommands()
            if now >= nextTick { tick() }
            if now >= releaseAt { releaseHeld() }
            runTurns()
            // What handlers answered at once goes out without another look at epoll.
            takeCommands()
            runTurns()
        }
        end()
    }

    /// Lets the connection ask again a little later.
    func hold(_ connection: Connection) {
        held.append(connection)
        releaseAt = min(releaseAt, now + BulkLimit.pause)
    }

    private func releaseHeld() {
        let round = held
        held.removeAll(keepingCapacity: true)
        releaseAt = .max
        for connection in round {
            (connection.isSendHeld, connection.isReceiveHeld) = (false, false)
            if connection.hasWork { enqueue(connection) }
        }
    }

    private func runTurns() {
        let round = turns
        turns.removeAll(keepingCapacity: true)
        for connection in round {
            connection.isQueued = false
            connection.turn()
            if connection.hasWork { enqueue(connection) }
        }
    }

    private func sleepMilliseconds() -> Int32 {
        if !turns.isEmpty || listeners.contains(where: \.hasMore) && now >= nextTick { return 0 }
        let mayRest = inbox.withLock { inbox in
            inbox.isAsleep = inbox.commands.isEmpty
            return inbox.isAsleep
        }
        guard mayRest else { return 0 }
        guard !connections.isEmpty || listeners.contains(where: \.hasMore) else { return -1 }
        now = Socket.now()
        let due = min(nextTick, releaseAt)
        return due <= now ? 0 : Int32(clamping: (due - now) / 1_000_000 + 1)
    }

    private func take(_ event: epoll_event) {
        let key = event.data.u64
        if key == Self.wakeKey {
            var value: eventfd_t = 0
            eventfd_read(wakeup, &value)
            return
        }
        if key < Self.firstListenerKey + UInt64(listeners.count) {
            listeners[Int(key - Self.firstListenerKey)].hasMore = true
            return
        }
        guard let connection = connections[key] else { return }
        let broken = EPOLLHUP.rawValue | EPOLLERR.rawValue | EPOLLRDHUP.rawValue
        if event.events & broken != 0 { connection.hungUp = true }
        if event.events & (EPOLLIN.rawValue | broken) != 0 { connection.readable = true }
        if event.events & (EPOLLOUT.rawValue | EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0 {
            connection.writable = true
            connection.becameWritable()
        }
        enqueue(connection)
    }

    /// Gives the connection a turn, after those that wait already.
    func enqueue(_ connection: Connection) {
        guard !connection.isQueued, !connection.isClosed else { return }
        connection.isQueued = true
        turns.append(connection)
    }

    private func tick() {
        var busy = false
        for connection in Array(connections.values) {
            connection.tick()
            busy = busy || connection.isBusy
            if connection.hasWork { enqueue(connection) }
        }
        nextTick = now + (busy ? ExchangeConfiguration.busyTick : ExchangeConfiguration.idleTick)
    }

    private func tickSoon() { nextTick = min(nextTick, now + ExchangeConfiguration.busyTick) }

    private func add(_ connection: Connection) {
        connections[connection.key] = connection
        let events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        watch(connection.fd, connection.key, events)
        tickSoon()
    }

    func forget(_ connection: Connection) {
        connections[connection.key] = nil
        if let client = connection as? ClientConnection, clients[client.peer] === client { clients[client.peer] = nil }
    }

    // MARK: Commands

    private func takeCommands() {
        let commands = inbox.withLock { inbox in
            defer { inbox.commands = [] }
            inbox.isAsleep = false
            return inbox.commands
        }
        for command in commands { take(command) }
    }

    private func take(_ command: Command) {
        switch command {
        case .send(let token, let request, let peer, let address, let deadline, let onEvent):
            guard !isStopping else { return onEvent(.failed(.stopped)) }
            switch connection(to: peer, address) {
            case .success(let connection): connection.submit(token, request, deadline: deadline, onEvent: onEvent)
            case .failure(let error):
                shared.traffic.count(peer) { $0.failures += 1 }
                onEvent(.failed(error))
            }
            tickSoon()
        case .cancel(let token): owners[token]?.cancel(token)
        case .disconnect(let peer): clients[peer]?.close(.closed)
        case .adopt(let fd, let address, let ticket):
            guard !isStopping else {
                shared.gate.leave(ticket, address, peer: nil)
                close(fd)
                return
            }
            add(ServerConnection(fd: fd, address: address, ticket: ticket, thread: self))
        case .reviewMembers:
            for connection in Array(connections.values) {
                if let peer = connection.provenPeer, shared.refusal(of: peer) != nil { connection.close(.closed) }
            }
        case .answer(let key, let request, let reply):
            guard let connection = connections[key] as? ServerConnection else { return reply.dispose() }
            connection.answer(request, reply)
        case .stop: isStopping = true
        }
    }

    private func connection(to peer: NodeID, _ address: NodeAddress) -> Result<ClientConnection, PeerError> {
        if let known = clients[peer] { return .success(known) }
        if let refusal = shared.refusal(of: peer) { return .failure(.connectFailed("\(peer) is no member: \(refusal)")) }
        guard !shared.isOpen || address.isLoopback else {
            return .failure(.connectFailed("\(address): without mesh.keyFile this node talks on loopback only"))
        }
        let fd = Socket.open(address)
        guard fd >= 0 else { return .failure(.connectFailed("\(address): \(Socket.text(errno))")) }
        Socket.prepare(fd)
        if Socket.withAddress(address, { connect(fd, $0, $1) }) != 0, errno != EINPROGRESS {
            let why = Socket.text(errno)
            close(fd)
            return .failure(.connectFailed("\(address): \(why)"))
        }
        let connection = ClientConnection(fd: fd, peer: peer, address: address, thread: self)
        clients[peer] = connection
        add(connection)
        return .success(connection)
    }

    // MARK: Accepting

    private func acceptAll() {
        for i in listeners.indices where listeners[i].hasMore {
            listeners[i].hasMore = accept(from: listeners[i].fd)
        }
    }

    /// `true` when connections may still wait that could not be taken now.
    private func accept(from listener: Int32) -> Bool {
        while true {
            var storage = sockaddr_storage()
            var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let fd = withUnsafeMutablePointer(to: &storage) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    accept4(listener, $0, &size, Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue))
                }
            }
            guard fd >= 0 else {
                switch errno {
                case EAGAIN: return false
                case EINTR, ECONNABORTED: continue
                default:
                    shared.logger.warning("no connection can be accepted now", metadata: ["reason": "\(Socket.text(errno))"])
                    tickSoon()
                    return true
                }
            }
            guard let address = Socket.address(storage), !shared.isOpen || address.isLoopback,
                let ticket = shared.gate.enter(address, now: now)
            else {
                shared.count { $0.crowded += 1 }
                close(fd)
                continue
            }
            Socket.prepare(fd)
            accepted &+= 1
            guard let thread = siblings(accepted), thread.post(.adopt(fd: fd, address, ticket: ticket)) else {
                shared.gate.leave(ticket, address, peer: nil)
                close(fd)
                continue
            }
        }
    }

    // MARK: The end

    private func end() {
        let left = inbox.withLock { inbox in
            inbox.isClosed = true
            defer { inbox.commands = [] }
            return inbox.commands
        }
        for command in left { take(command) }
        for connection in Array(connections.values) { connection.close(.stopped) }
        for listener in listeners { close(listener.fd) }
        listeners = []
        turns = []
        held = []
    }
}

private func runIOThread(_ raw: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let raw else { return nil }
    Unmanaged<IOThread>.fromOpaque(raw).takeRetainedValue().run()
    return nil
}
