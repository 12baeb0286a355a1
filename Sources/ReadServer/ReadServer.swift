internal import CLinux
internal import Glibc
public import Logging
internal import BlockingThreads
internal import ReadProtocol
internal import Synchronization

/// Serves the local read protocol on a Unix socket: one thread reads all requests, whoever has an answer sends it.
public final class ReadServer: Sendable {
    /// Clients at a time; a further one is told so, and closed.
    public static let maxClients = 64
    /// Bytes that are read from a client at a time.
    static let readBytes = 64 * 1024
    /// A client that takes nothing of its answers for this long is dropped (nanoseconds).
    static let stall: UInt64 = 30_000_000_000
    /// A client that does not say hello for this long is dropped (nanoseconds).
    static let helloTime: UInt64 = 5_000_000_000
    /// Between two looks at the clock, in milliseconds.
    static let tick: Int32 = 1000
    /// `sun_path` holds 108 bytes with its end.
    public static let maxPathBytes = 107
    /// Connections that wait to be accepted.
    static let backlog: Int32 = 64

    private let path: String
    private let software: String
    private let handler: any ReadHandler
    private let logger: Logger
    private let epoll: Int32
    private let wakeup: Int32
    private let listener: Int32
    private let isStopping = Atomic(false)
    private let isStarted = Atomic(false)
    private let ended = Mutex<[@Sendable () -> Void]?>([])

    /// Binds the socket: whatever lies there of an earlier daemon is replaced.
    ///
    /// - Parameters:
    ///   - mode: of the socket: who may read what the daemon can get.
    ///   - software: what is said to clients, at most 64 bytes.
    /// - Throws: `ReadServerError`, one clear line.
    public init(path: String, mode: UInt32 = 0o660, software: String, handler: any ReadHandler, logger: Logger) throws(ReadServerError) {
        (self.path, self.software, self.handler, self.logger) = (path, software, handler, logger)
        guard path.utf8.count <= Self.maxPathBytes else {
            throw ReadServerError(
                description: "the read socket's path is longer than \(Self.maxPathBytes) bytes: \(path); shorten api.socket")
        }
        let bound = Self.bind(path, mode_t(mode))
        guard bound >= 0 else {
            throw ReadServerError(description: "cannot listen on \(path): \(String(cString: strerror(-bound))); set api.socket")
        }
        listener = bound
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        wakeup = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard epoll >= 0, wakeup >= 0 else {
            let code = errno
            close(bound)
            if epoll >= 0 { close(epoll) }
            unlink(path)
            throw ReadServerError(
                description: "no descriptors for the read socket (\(String(cString: strerror(code)))); raise the limit of open files")
        }
    }

    deinit {
        // Whoever ran took the name away, which may be another one's by now.
        if !isStarted.load(ordering: .relaxed) { unlink(path) }
        close(epoll)
        close(wakeup)
        close(listener)
    }

    private static func bind(_ path: String, _ mode: mode_t) -> Int32 {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard fd >= 0 else { return -errno }
        var status = stat()
        if lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK { unlink(path) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.bind(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, chmod(path, mode) == 0, listen(fd, backlog) == 0 else {
            let code = errno
            close(fd)
            return -code
        }
        return fd
    }

    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// Begins to answer.
    public func start() throws(ReadServerError) {
        isStarted.store(true, ordering: .relaxed)
        guard BlockingThreads.startThread({ [self] in run() }) else {
            throw ReadServerError(description: "no thread for the read socket; raise the limit of threads")
        }
        logger.info("reads are answered", metadata: ["address": "\(path)"])
    }

    /// Clients are told to go, and the socket's name is gone when this returns.
    public func stop() async {
        isStopping.store(true, ordering: .releasing)
        eventfd_write(wakeup, 1)
        await withCheckedContinuation { continuation in
            let isOver = ended.withLock { ended in
                guard ended != nil else { return true }
                ended!.append { continuation.resume() }
                return false
            }
            if isOver { continuation.resume() }
        }
    }

    // MARK: The thread

    /// What the thread knows of a client.
    private final class Client {
        let connection: ReadConnection
        var frames = ReadFrames()
        var saidHello = false
        let since = ReadServer.now()
        init(_ connection: ReadConnection) { self.connection = connection }
    }

    private static let wakeKey: UInt64 = 0
    private static let listenKey: UInt64 = 1

    private func watch(_ fd: Int32, _ key: UInt64, _ operation: Int32, _ events: UInt32) {
        var event = epoll_event()
        event.events = events
        event.data.u64 = key
        epoll_ctl(epoll, operation, fd, &event)
    }

    private func run() {
        var clients: [UInt64: Client] = [:]
        var numbers = Self.listenKey
        watch(wakeup, Self.wakeKey, EPOLL_CTL_ADD, EPOLLIN.rawValue)
        watch(listener, Self.listenKey, EPOLL_CTL_ADD, EPOLLIN.rawValue)
        let capacity = 64
        let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: capacity)
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.readBytes, alignment: 64)
        defer {
            events.deallocate()
            scratch.deallocate()
        }
        var nextTick = Self.now()
        while !isStopping.load(ordering: .acquiring) {
            let count = epoll_wait(epoll, events, Int32(capacity), clients.isEmpty ? -1 : Self.tick)
            for i in 0..<Int(max(count, 0)) {
                let (key, what) = (events[i].data.u64, events[i].events)
                switch key {
                case Self.wakeKey:
                    var value: eventfd_t = 0
                    eventfd_read(wakeup, &value)
                case Self.listenKey: acceptAll(&clients, &numbers)
                default:
                    guard let client = clients[key] else { continue }
                    if what & EPOLLOUT.rawValue != 0 { client.connection.writable() }
                    guard what & ~EPOLLOUT.rawValue != 0 else { continue }
                    if !receive(client, scratch) { drop(client, &clients) }
                }
            }
            let now = Self.now()
            guard now >= nextTick else { continue }
            nextTick = now + UInt64(Self.tick) * 1_000_000
            for client in Array(clients.values) {
                let isStalled = client.connection.stalledSince.map { now > $0 && now - $0 >= Self.stall } ?? false
                if isStalled || !client.saidHello && now - client.since >= Self.helloTime { drop(client, &clients) }
            }
        }
        unlink(path)
        for client in Array(clients.values) { drop(client, &clients) }
        let waiting = ended.withLock { ended in
            defer { ended = nil }
            return ended ?? []
        }
        for tell in waiting { tell() }
    }

    private func acceptAll(_ clients: inout [UInt64: Client], _ numbers: inout UInt64) {
        while true {
            let fd = accept4(listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue))
            guard fd >= 0 else {
                if errno == EINTR || errno == ECONNABORTED { continue }
                if errno != EAGAIN {
                    // Level-triggered: not at once again, or the thread would turn in circles.
                    logger.warning("no reader can be let in now", metadata: ["reason": "\(String(cString: strerror(errno)))"])
                    usleep(100_000)
                }
                return
            }
            numbers += 1
            let connection = ReadConnection(number: numbers, fd: fd) { [self] connection, isBlocked in
                watch(
                    connection.fd, connection.number, EPOLL_CTL_MOD,
                    EPOLLIN.rawValue | EPOLLRDHUP.rawValue | (isBlocked ? EPOLLOUT.rawValue : 0))
            }
            guard clients.count < Self.maxClients else {
                connection.sendUnasked(.hello(version: ReadLimits.version, software: software))
                connection.sendUnasked(.failed(id: 0, code: .busy, message: "too many readers at this daemon"))
                connection.close()
                continue
            }
            clients[numbers] = Client(connection)
            watch(fd, numbers, EPOLL_CTL_ADD, EPOLLIN.rawValue | EPOLLRDHUP.rawValue)
        }
    }

    private func drop(_ client: Client, _ clients: inout [UInt64: Client]) {
        clients[client.connection.number] = nil
        client.connection.close()
        if client.saidHello { handler.ended(client.connection) }
    }

    /// Takes one portion of what the client sent; `false` when it has gone or must go.
    private func receive(_ client: Client, _ scratch: UnsafeMutableRawBufferPointer) -> Bool {
        // Descriptors that somebody sends are not taken: the kernel closes them.
        let count = recv(client.connection.fd, scratch.baseAddress, scratch.count, Int32(MSG_DONTWAIT))
        guard count > 0 else { return count < 0 && (errno == EAGAIN || errno == EINTR) }
        client.frames.append(UnsafeRawBufferPointer(rebasing: scratch[..<count]))
        do throws(ReadViolation) {
            while let body = try client.frames.next() { try take(try ReadRequest(decoding: body), from: client) }
            return true
        } catch {
            logger.debug("a reader is dropped", metadata: ["reason": "\(error)"])
            return false
        }
    }

    private func take(_ request: ReadRequest, from client: Client) throws(ReadViolation) {
        if case .hello(let version) = request {
            guard !client.saidHello else { throw ReadViolation("a second hello") }
            client.connection.sendUnasked(.hello(version: ReadLimits.version, software: software))
            guard version == ReadLimits.version else { throw ReadViolation("it speaks version \(version)") }
            client.saidHello = true
            return handler.began(client.connection)
        }
        guard client.saidHello else { throw ReadViolation("a request before hello") }
        if case .cancel(let id) = request { return client.connection.cancel(id) }
        if let id = request.answerID {
            switch client.connection.admit(id) {
            case .admitted: break
            case .busy: return
            case .flooded: throw ReadViolation("it takes no answers")
            case .twice: throw ReadViolation("an id that is in use")
            }
        }
        handler.handle(request, from: client.connection)
    }
}
