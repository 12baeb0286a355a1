internal import Glibc
internal import Gossip
internal import MeshKeys
internal import NIOCore
internal import NIOPosix
internal import Synchronization

extension GossipTransport {
    /// Bytes that the kernel keeps of datagrams that were not read yet; what does not fit is lost, as on any network.
    static let receiveBuffer: Int = 1 << 20
    /// No gossip datagram is longer; longer ones are cut by the kernel and don't open.
    static let maxDatagram = 2_048

    /// Opens the sockets and tells the machine its address.
    func listen() async throws -> [any Channel] {
        let wanted = configuration.listen
        let first: any Channel
        do {
            first = try await bind(wanted, isDual: false)
        } catch {
            throw GossipTransportError.cannotListen(wanted, "\(error)")
        }
        var channels = [first]
        let port = UInt16(clamping: first.localAddress?.port ?? 0)
        // A host without IPv6 is none the worse for it.
        if wanted.isUnspecified, !wanted.isIPv6, let any6 = NodeAddress(ip: [UInt8](repeating: 0, count: 16), port: port),
            let second = try? await bind(any6, isDual: true)
        {
            channels.append(second)
        }
        let opened = channels
        state.withLock { state in
            for (i, channel) in opened.enumerated() {
                if wanted.isIPv6 || i == 1 { state.channel6 = channel } else { state.channel4 = channel }
            }
            state.localAddress = NodeAddress(ip: wanted.ip, port: port)
            let advertised = configuration.advertise ?? wanted
            if let address = NodeAddress(ip: advertised.ip, port: advertised.port == 0 ? port : advertised.port) {
                state.machine.listens(at: address)
            }
        }
        return channels
    }

    private func bind(_ address: NodeAddress, isDual: Bool) async throws -> any Channel {
        var bootstrap = bootstrap()
        if address.isIPv6 {
            bootstrap = bootstrap.channelOption(
                ChannelOptions.socket(SocketOptionLevel(IPPROTO_IPV6), SocketOptionName(IPV6_V6ONLY)), value: 1)
        }
        return try await bootstrap.bind(to: SocketAddress(ipAddress: address.host, port: Int(address.port))).get()
    }

    func bootstrap() -> DatagramBootstrap {
        DatagramBootstrap(group: loop)
            .channelOption(.socketOption(.so_rcvbuf), value: Self.receiveBuffer)
            .channelOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: Self.maxDatagram))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(DatagramReader(transport: self)) }
            }
    }

    /// Sends one sealed datagram; without a socket of the address's family, or when the kernel refuses, it is counted as lost.
    func send(_ sealed: [UInt8], to address: NodeAddress) {
        let (channel, scope) = state.withLock { state -> ((any Channel)?, UInt32) in
            // Without a key nothing leaves the machine, wherever an address came from.
            let channel = hasKey || address.isLoopback ? (address.isIPv6 ? state.channel6 : state.channel4) : nil
            if channel == nil {
                state.counters.sendErrors += 1
            } else {
                state.counters.datagramsSent += 1
                state.counters.bytesSent += UInt64(sealed.count)
            }
            return (channel, state.scopes[address] ?? 0)
        }
        guard let channel, let remote = Self.socketAddress(address, scope: scope) else { return }
        write(sealed, to: remote, by: channel)
    }

    func write(_ sealed: [UInt8], to remote: SocketAddress, by channel: any Channel) {
        let envelope = AddressedEnvelope(remoteAddress: remote, data: channel.allocator.buffer(bytes: sealed))
        let written = channel.eventLoop.makePromise(of: Void.self)
        written.futureResult.whenFailure { _ in self.state.withLock { $0.counters.sendErrors += 1 } }
        channel.writeAndFlush(envelope, promise: written)
    }

    /// - Parameter scope: interface of a link-local address; 0 for any other.
    static func socketAddress(_ address: NodeAddress, scope: UInt32) -> SocketAddress? {
        address.isIPv6 ? SocketAddress(RawAddress.v6(address, scope: scope), host: "") : SocketAddress(RawAddress.v4(address), host: "")
    }

    /// The address, and its interface if it is link-local.
    static func nodeAddress(_ address: SocketAddress) -> (NodeAddress, scope: UInt32)? {
        switch address {
        case .v4(let v4):
            // Fields by their place (ip(7), ipv6(7)): the module that NIO declares them in is not for others to import.
            let raw = withUnsafeBytes(of: v4.address) { Array($0) }
            return NodeAddress(ip: Array(raw[4..<8]), port: UInt16(raw[2]) << 8 | UInt16(raw[3])).map { ($0, 0) }
        case .v6(let v6):
            let raw = withUnsafeBytes(of: v6.address) { Array($0) }
            let isLinkLocal = raw[8] == 0xfe && raw[9] & 0xc0 == 0x80
            let scope = withUnsafeBytes(of: v6.address) { $0.loadUnaligned(fromByteOffset: 24, as: UInt32.self) }
            return NodeAddress(ip: Array(raw[8..<24]), port: UInt16(raw[2]) << 8 | UInt16(raw[3])).map { ($0, isLinkLocal ? scope : 0) }
        case .unixDomainSocket: return nil
        }
    }
}

/// Hands datagrams to the transport. Errors of single datagrams (a refused port, say) close nothing.
private final class DatagramReader: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>

    private let transport: GossipTransport

    init(transport: GossipTransport) { self.transport = transport }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        guard let (from, scope) = GossipTransport.nodeAddress(envelope.remoteAddress) else { return }
        transport.receive(Array(envelope.data.readableBytesView), from: from, scope: scope)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        transport.state.withLock { $0.counters.sendErrors += 1 }
    }
}
