public import MeshKeys

/// How one node takes part in gossip over the network.
public struct GossipTransportConfiguration: Sendable {
    /// Where datagrams are received. An unspecified IPv4 address means IPv6 too, where there is any. Port 0: any free one.
    public var listen: NodeAddress
    /// What others shall use, if not `listen`; `nil` and an unspecified `listen`: the address under which others see this node.
    public var advertise: NodeAddress?
    /// `host:port` texts; all addresses of a name are used.
    public var seeds: [String] = []
    /// Look for nodes on the LAN by multicast.
    public var multicast = true
    public var multicastGroup4 = "239.77.67.72"
    public var multicastGroup6 = "ff02::4d43:4853"
    public var multicastPort: UInt16 = 7948

    /// Datagrams taken in of one member in a second, some hundred times what one sends; the rest is dropped and counted.
    public var datagramsPerSecond = 4_000

    public init(listen: NodeAddress) { self.listen = listen }
}

/// Why gossip could not start; each text names what to do.
public enum GossipTransportError: Error, CustomStringConvertible, Equatable {
    case noKeyBeyondLoopback(NodeAddress)
    case cannotListen(NodeAddress, String)

    public var description: String {
        switch self {
        case .noKeyBeyondLoopback(let address):
            "gossip: without a mesh key a node listens on loopback only, not on \(address): set mesh.keyFile or listen on 127.0.0.1"
        case .cannotListen(let address, let cause): "gossip: cannot listen on UDP \(address): \(cause); is another node running?"
        }
    }
}

/// Counters since the start.
public struct GossipTransportCounters: Sendable, Equatable {
    public var datagramsReceived: UInt64 = 0
    public var datagramsSent: UInt64 = 0
    public var bytesReceived: UInt64 = 0
    public var bytesSent: UInt64 = 0
    /// Did not open with any key.
    public var foreign: UInt64 = 0
    /// Dropped unopened, since their source had sent too many that did not open.
    public var limited: UInt64 = 0
    public var replayed: UInt64 = 0
    /// Held back until their sender proves that it lives where they came from, or dropped because too many wait for that.
    public var held: UInt64 = 0
    public var sendErrors: UInt64 = 0
    /// State exchanges by stream that were not tried, since `GossipTransport.maxExchanges` were under way.
    public var exchangesRefused: UInt64 = 0
    /// Datagrams of members beyond what one may send in a second.
    public var flooded: UInt64 = 0
    /// Events that the reader of `events` was too slow for.
    public var eventsDropped: UInt64 = 0
}
