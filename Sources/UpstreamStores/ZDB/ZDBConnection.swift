internal import ChunkModel
internal import NIOCore

/// One connection: sends commands without waiting for the replies to earlier ones and deals the replies out in order.
///
/// Touched on the pool's event loop alone. It ends by one call of `pool.ended`, with what was in flight.
final class ZDBConnection: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer

    enum Phase {
        /// Connects and enters the namespace; becomes `ready` or `closed`.
        case entering
        /// Takes commands; becomes `closed`.
        case ready
        case closed
    }

    /// Bytes that the values of the reply to SELECT or AUTH may have: none is expected.
    static let entranceReplyBytes = 1_024
    /// Reads of up to 64 KiB before the rate is looked at again.
    static let readsAtOnce: UInt = 2
    /// While others come first, it looks this often whether it may read on.
    static let heldLook: TimeAmount = .milliseconds(20)

    private(set) var phase = Phase.entering
    private(set) var inFlight: [ZDBCommand] = []
    private(set) var idleSince = NIODeadline.now()
    let openedAt = NIODeadline.now()
    private let pool: ZDBPool
    /// With the credentials that were known when the connection was opened.
    private let address: ZDBAddress
    private var channel: (any Channel)?
    private var parser = RESPParser()
    private var repliesReceived = 0
    private var pause: Scheduled<Void>?
    /// Since when the reply that is due is awaited, and what came of it so far.
    private var stallStart = NIODeadline.now()
    private var stallBytes = 0
    /// Bytes sent that no reply has confirmed.
    private var unconfirmed = 0

    init(pool: ZDBPool, address: ZDBAddress) { (self.pool, self.address) = (pool, address) }

    // MARK: From the pool

    /// Prefetches under way are counted apart: they leave room for what somebody waits for.
    var prefetches: Int { inFlight.reduce(0) { $0 + ($1.priority == .prefetch ? 1 : 0) } }

    func send(_ command: ZDBCommand) {
        guard let channel else { return }
        if inFlight.isEmpty { restartStall() }
        inFlight.append(command)
        unconfirmed += command.request.byteCount
        pool.counters.add { $0.requests += 1 }
        write(command.request, to: channel)
    }

    /// Ends the connection; `pool.ended` is called before this returns.
    ///
    /// - Parameter sparesHead: the command whose reply is due is no more to blame than those behind it.
    func close(_ failure: ZDBFailure, sparesHead: Bool = false) {
        guard phase != .closed else { return }
        let wasReady = phase == .ready
        phase = .closed
        pause?.cancel()
        let (channel, commands) = (channel, inFlight)
        (self.channel, inFlight) = (nil, [])
        pool.ended(self, failure, wasReady: wasReady, commands, sparesHead: sparesHead)
        channel?.close(promise: nil)
    }

    /// Ends the connection when the reply that is due comes too slowly.
    func check(now: NIODeadline) {
        guard phase == .ready, !inFlight.isEmpty else { return }
        // Our own rate holds it back.
        if pause != nil { return restartStall() }
        let limits = pool.transfer
        // What is being sent must cross the line first.
        let allowance = limits.lowSpeedTime + .seconds(Double(unconfirmed) / Double(max(limits.lowSpeedBytes, 1)))
        guard now - stallStart >= TimeAmount(allowance) else { return }
        let expected = Double(limits.lowSpeedBytes) * limits.lowSpeedTime.seconds
        if stallBytes > 0, Double(stallBytes) >= expected { return restartStall() }
        close(
            ZDBFailure(
                kind: .timeout, retryable: true,
                line: stallBytes == 0 && !parser.isWithinReply
                    ? "no reply within \(allowance.spoken)" : "less than \(limits.lowSpeedBytes) bytes per second for \(allowance.spoken)"))
    }

    private func restartStall() {
        stallStart = .now()
        stallBytes = 0
    }

    private func write(_ request: RESPRequest, to channel: any Channel) {
        var buffer = channel.allocator.buffer(capacity: request.byteCount)
        buffer.writeBytes(request.head)
        if let payload = request.payload {
            payload.withBytes { _ = buffer.writeBytes($0) }
            buffer.writeStaticString("\r\n")
        }
        channel.writeAndFlush(buffer, promise: nil)
    }

    // MARK: From the channel

    func channelActive(context: ChannelHandlerContext) {
        guard phase == .entering else { return context.close(promise: nil) }
        channel = context.channel
        pool.counters.add { $0.connections += 1 }
        if let entrance = address.entranceRequest {
            write(entrance, to: context.channel)
        } else {
            becomeReady()
        }
        readOn(context.channel)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        pool.rate.charge(bytes.readableBytes)
        guard phase != .closed else { return }
        stallBytes += bytes.readableBytes
        let before = parser.receivedBulkBytes
        do {
            try bytes.withUnsafeReadableBytes { try take($0) }
        } catch {
            close(.broken(error))
        }
        let values = parser.receivedBulkBytes - before
        pool.counters.add {
            $0.valueBytes += values
            $0.headerBytes += bytes.readableBytes - values
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        readOn(context.channel)
        if phase == .ready { pool.pump() }
    }

    func channelInactive(context: ChannelHandlerContext) { lost(.closed) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        lost(.broken(error))
        context.close(promise: nil)
    }

    /// The connection ended between two replies, perhaps while it was idle: that says nothing against the first command either.
    private func lost(_ failure: ZDBFailure) { close(failure, sparesHead: !parser.isWithinReply && repliesReceived > 0) }

    /// One read is always under way or waits for the rate, so that the end of the connection is noticed.
    private func readOn(_ channel: any Channel) {
        guard phase != .closed, pause == nil else { return }
        // Without commands it reads to notice the end: nothing is to come.
        let wait: TimeAmount
        switch pool.rate.wait(inFlight.lazy.map(\.priority).max() ?? .foreground) {
        case .no: return channel.read()
        case .rate(let time): wait = TimeAmount(time)
        case .held: wait = Self.heldLook
        }
        pause = channel.eventLoop.scheduleTask(in: max(wait, .milliseconds(1))) { [self] in
            pause = nil
            readOn(channel)
        }
    }

    private func take(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes
        while !rest.isEmpty, phase != .closed {
            let head = inFlight.first
            guard phase == .entering || head != nil else {
                return close(ZDBFailure(kind: .broken, retryable: true, line: "the server sent something that nobody asked for"))
            }
            let (used, reply) = try parser.parse(
                rest, limit: head?.replyLimit ?? Self.entranceReplyBytes, pool: head?.buffers ?? pool.spareBuffers)
            rest = UnsafeRawBufferPointer(rebasing: rest[used...])
            if let reply { received(reply) }
        }
    }

    private func received(_ reply: RESPReply) {
        restartStall()
        guard phase == .ready else {
            if reply.isOK { return becomeReady() }
            return close(ZDBRefusal(entrance: reply, at: address).failure)
        }
        repliesReceived += 1
        let command = inFlight.removeFirst()
        unconfirmed -= command.request.byteCount
        if inFlight.isEmpty { idleSince = .now() }
        command.finish(.success(reply))
    }

    private func becomeReady() {
        phase = .ready
        idleSince = .now()
        pool.entered(self)
    }
}

extension ZDBAddress {
    /// What a connection begins with.
    fileprivate var entranceRequest: RESPRequest? {
        switch entrance {
        case .none: nil
        case .select(let namespace, let password): .select(namespace: namespace, password: password)
        case .authenticate(let user, let password): .authenticate(user: user, password: password)
        }
    }
}

extension TimeAmount {
    init(_ duration: Duration) { self = .milliseconds(Int64(duration.milliseconds)) }
}
