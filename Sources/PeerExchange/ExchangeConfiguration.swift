public import MeshKeys
public import PeerProtocol

/// How a node takes part in the exchange of chunks.
public struct ExchangeConfiguration: Sendable {
    /// Where to listen. Port 0 takes a free one, the same for all addresses. Without mesh keys only loopback addresses of the same
    /// port are used.
    public var listen: [NodeAddress]
    /// Threads that move bytes. Connections are spread over them; hashing and disk writes happen elsewhere.
    public var threads = 2
    public var limits = ExchangeLimits()
    public var times = ProtocolTimes()
    /// Nanoseconds for connecting; then the peer counts as unreachable.
    public var connectTimeout: UInt64 = 2_000_000_000
    /// Nanoseconds for the handshake, on both sides; an accepted connection that is not authenticated by then is closed.
    public var handshakeTimeout: UInt64 = 3_000_000_000
    /// Nanoseconds in which a peer that we send to must take some bytes; else it is dropped and its files are closed.
    public var sendStall: UInt64 = 10_000_000_000
    /// Accepted connections in all; further ones are closed at once.
    public var maxConnections = 512
    /// Accepted connections from one address (IPv6: one /64) that have not authenticated; further ones are closed at once.
    public var maxUnauthenticatedPerAddress = 32
    /// Accepted connections that have not authenticated, from everywhere; the oldest one gives way to a new one.
    public var maxUnauthenticated = 128
    /// Accepted connections of one node; further ones are closed after their handshake.
    public var maxConnectionsPerPeer = 32
    /// Chunks and pieces of flists that one node may ask for in a second, over all its connections; more is answered "busy".
    public var chunksPerSecond = 10_000
    /// The same for messages, of which some are costly to answer.
    public var messagesPerSecond = 100
    /// Bulk bytes travel sealed on every connection of this node, not only where the other end wants it.
    public var sealsBulk = false

    public init(listen: [NodeAddress]) { self.listen = listen }

    /// Listens on all addresses, IPv4 and IPv6.
    public init(port: UInt16) {
        listen = [[UInt8](repeating: 0, count: 4), [UInt8](repeating: 0, count: 16)].compactMap { NodeAddress(ip: $0, port: port) }
    }

    /// Requests may come in bursts of what is allowed in so many seconds.
    static let burstSeconds = 4.0
    /// What a peer that asks too often is told to wait.
    static let limitedRetryMilliseconds: UInt32 = 250
    /// Nanoseconds after which a connection made under a mesh key that is gone is closed, also amid requests.
    static let retiredKeyGrace: UInt64 = 30_000_000_000
    /// Bytes read at once of sealed bulk data.
    static let sealedReadBytes = 128 * 1024
    /// Bytes that a connection reads, and that it writes, before the others of its thread get their turn.
    static let turnBytes = 1 << 20
    /// Bytes read at once where frames are expected; what of it turns out to be bulk is copied.
    static let controlReadBytes = 16 * 1024
    /// Sealed frames collected for one write.
    static let writeBatchBytes = 64 * 1024
    /// Connections that the kernel holds until they are accepted.
    static let acceptBacklog: Int32 = 256
    /// Nanoseconds between looks at the deadlines while requests are under way; all time-outs are as fine as this.
    static let busyTick: UInt64 = 50_000_000
    /// The same while nothing is under way.
    static let idleTick: UInt64 = 1_000_000_000
    /// Milliseconds without acknowledgement after which the kernel gives a connection up.
    static let tcpUserTimeoutMilliseconds: Int32 = 10_000
    /// Seconds of silence after which the kernel asks whether the other end is still there.
    static let keepaliveSeconds: Int32 = 15
    /// Peers whose figures are kept; further ones are served but not counted.
    static let maxCountedPeers = 4096
}

/// Why the exchange could not start.
public struct ExchangeStartError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
}
