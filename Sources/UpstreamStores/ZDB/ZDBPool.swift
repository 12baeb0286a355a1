internal import ChunkModel
internal import NIOCore
internal import NIOPosix

/// The connections to one store, and the commands that wait for them. Everything is touched on `loop` alone.
///
/// A command goes to the connection with the fewest in flight. When a connection dies, the command whose reply was due fails; those
/// behind it are sent once more over another one.
final class ZDBPool: @unchecked Sendable {
    struct Limits: Sendable {
        /// Connections to one store; further commands share them.
        var connections = 4
        /// Commands on one connection whose replies are due; further ones wait, the urgent ones in front.
        var inFlight = 8
        /// Prefetches among them, so that what somebody waits for does not stand behind a long line of them.
        var prefetches = 4
        /// With so many commands on every connection one more is opened.
        var growAt = 2
        /// Commands that wait; further ones fail at once.
        var waiting = 4_096
        /// A connection without commands is closed after this.
        var idle: Duration = .seconds(30)
        /// After an attempt to connect failed, the next one waits; twice as long each time …
        var firstReconnectWait: Duration = .milliseconds(100)
        /// … up to this.
        var longestReconnectWait: Duration = .seconds(2)
    }

    /// Deadlines are looked at so often while commands are under way; more often where they are shorter than a second.
    static let tick = TimeAmount.milliseconds(250)

    let loop: any EventLoop
    let address: ZDBAddress
    let transfer: TransferLimits
    let rate: ReceiveRate
    let counters: UpstreamCounters
    /// For replies that hold no chunk.
    let spareBuffers = ChunkBufferPool(keep: 0)
    private let limits: Limits
    private var connections: [ZDBConnection] = []
    /// By priority.
    private var waiting = [[ZDBCommand]](repeating: [], count: FetchPriority.allCases.count)
    private var connectNotBefore = NIODeadline.uptimeNanoseconds(0)
    private var reconnectWait: Duration
    private var timer: Scheduled<Void>?
    private var timerAt = NIODeadline.distantFuture
    private var isStopped = false

    init(
        address: ZDBAddress, transfer: TransferLimits, limits: Limits, rate: ReceiveRate, counters: UpstreamCounters, loop: any EventLoop
    ) {
        (self.address, self.transfer, self.limits) = (address, transfer, limits)
        (self.rate, self.counters, self.loop) = (rate, counters, loop)
        reconnectWait = limits.firstReconnectWait
    }

    // MARK: Commands

    func submit(_ command: ZDBCommand) {
        if isStopped { return command.finish(.failure(.stopped)) }
        if command.isCancelled { return command.finish(.failure(.cancelled)) }
        guard waiting.reduce(0, { $0 + $1.count }) < limits.waiting else {
            let line = "\(limits.waiting) requests wait already"
            return command.finish(.failure(ZDBFailure(kind: .other, retryable: true, line: line, isAtFault: false)))
        }
        command.deadline = .now() + TimeAmount(transfer.total)
        waiting[Int(command.priority.rawValue)].append(command)
        pump()
    }

    /// A command under way keeps its place in the line; its reply is thrown away.
    func cancel(_ command: ZDBCommand) {
        waiting[Int(command.priority.rawValue)].removeAll { $0 === command }
        command.finish(.failure(.cancelled))
    }

    func shutdown() {
        isStopped = true
        failWaiting(.stopped)
        for connection in connections { connection.close(.stopped) }
        timer?.cancel()
    }

    /// Sends what can be sent.
    func pump() {
        while let priority = waiting.lastIndex(where: { !$0.isEmpty }) {
            let isPrefetch = priority == Int(FetchPriority.prefetch.rawValue)
            let best = connections.filter { connection in
                connection.phase == .ready && connection.inFlight.count < limits.inFlight
                    && (!isPrefetch || connection.prefetches < limits.prefetches)
            }.min { $0.inFlight.count < $1.inFlight.count }
            if (best?.inFlight.count ?? limits.growAt) >= limits.growAt { grow() }
            guard let best, !waiting[priority].isEmpty else { break }
            best.send(waiting[priority].removeFirst())
        }
        arm()
    }

    private func failWaiting(_ failure: ZDBFailure) {
        var failure = failure
        let all = waiting.reversed().flatMap { $0 }
        for i in waiting.indices { waiting[i] = [] }
        for command in all {
            command.finish(.failure(failure))
            failure.isAtFault = false
        }
    }

    // MARK: Connections

    /// What a connection begins with.
    var entranceRequest: RESPRequest? {
        switch address.entrance {
        case .none: nil
        case .select(let namespace, let password): .select(namespace: namespace, password: password)
        case .authenticate(let user, let password): .authenticate(user: user, password: password)
        }
    }

    func entranceFailure(_ reply: RESPReply) -> ZDBFailure { ZDBRefusal(entrance: reply, at: address).failure }

    private func grow() {
        guard !isStopped, connections.count < limits.connections, !connections.contains(where: { $0.phase == .entering }),
            NIODeadline.now() >= connectNotBefore
        else { return }
        let connection = ZDBConnection(pool: self)
        connections.append(connection)
        let bootstrap = ClientBootstrap(group: loop)
            .connectTimeout(TimeAmount(transfer.connect))
            .channelOption(.autoRead, value: false)
            .channelOption(.maxMessagesPerRead, value: ZDBConnection.readsAtOnce)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(connection) }
            }
        let connected =
            switch address.place {
            case .tcp(let host, let port): bootstrap.connect(host: host, port: port)
            case .socket(let path): bootstrap.connect(unixDomainSocketPath: path)
            }
        connected.whenFailure { [limit = transfer.connect] in connection.close(.connecting($0, limit: limit)) }
    }

    func entered(_ connection: ZDBConnection) {
        reconnectWait = limits.firstReconnectWait
        pump()
    }

    /// - Parameter commands: in flight, in the order in which they were sent.
    func ended(_ connection: ZDBConnection, _ failure: ZDBFailure, wasReady: Bool, _ commands: [ZDBCommand], sparesHead: Bool) {
        connections.removeAll { $0 === connection }
        if !wasReady {
            connectNotBefore = .now() + TimeAmount(reconnectWait)
            reconnectWait = min(reconnectWait * 2, limits.longestReconnectWait)
            // Others may still carry what waits.
            if !connections.contains(where: { $0.phase == .ready }) { failWaiting(failure) }
        }
        var collateral = failure
        (collateral.isAtFault, collateral.retryable) = (false, true)
        for (i, command) in commands.enumerated().reversed() where !command.isAbandoned {
            if i == 0, !sparesHead || command.wasMoved {
                command.finish(.failure(failure))
            } else if command.wasMoved || isStopped {
                command.finish(.failure(collateral))
            } else {
                command.wasMoved = true
                waiting[Int(command.priority.rawValue)].insert(command, at: 0)
            }
        }
        if !isStopped { pump() }
    }

    // MARK: Time

    private func arm() {
        guard !isStopped else { return }
        let isBusy = waiting.contains { !$0.isEmpty } || connections.contains { $0.phase == .entering || !$0.inFlight.isEmpty }
        guard isBusy || !connections.isEmpty else { return }
        let shortest = min(transfer.connect, transfer.lowSpeedTime, transfer.total)
        let step = isBusy ? min(Self.tick, max(TimeAmount(shortest / 4), .milliseconds(5))) : TimeAmount(limits.idle)
        let due = NIODeadline.now() + step
        if timer != nil, timerAt <= due { return }
        timer?.cancel()
        timerAt = due
        timer = loop.scheduleTask(deadline: due) { [self] in
            timer = nil
            keepTime()
        }
    }

    private func keepTime() {
        let now = NIODeadline.now()
        let late = ZDBFailure.late("no complete reply", transfer.total)
        for i in waiting.indices {
            let over = waiting[i].filter { $0.deadline <= now }
            waiting[i].removeAll { $0.deadline <= now }
            for command in over { command.finish(.failure(late)) }
        }
        for connection in connections {
            switch connection.phase {
            case .entering:
                if now - connection.openedAt >= TimeAmount(transfer.connect) {
                    connection.close(.late("no connection and no answer to its first command", transfer.connect))
                }
            case .ready:
                if let head = connection.inFlight.first {
                    connection.check(now: now)
                    if head.deadline <= now { connection.close(late) }
                } else if now - connection.idleSince >= TimeAmount(limits.idle) {
                    connection.close(.closed)
                }
            case .closed: break
            }
        }
        pump()
    }
}
