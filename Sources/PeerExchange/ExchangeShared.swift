internal import ChunkModel
internal import Logging
internal import MeshKeys
internal import PeerProtocol
internal import Synchronization

/// What all threads of one exchange use together.
final class ExchangeShared: Sendable {
    let configuration: ExchangeConfiguration
    let identity: NodeIdentity
    let ring: MeshKeyRing
    let isOpen: Bool
    let handler: any PeerRequestHandler
    let pool: ChunkBufferPool
    let logger: Logger
    let gate: AcceptGate
    let traffic = TrafficBook()
    let sendLimit: BulkLimit
    let receiveLimit: BulkLimit
    private let keys = Atomic<UInt64>(16)

    init(
        configuration: ExchangeConfiguration, identity: NodeIdentity, keys: MeshKeyRing?, handler: any PeerRequestHandler,
        pool: ChunkBufferPool, logger: Logger
    ) {
        (self.configuration, self.identity, self.handler) = (configuration, identity, handler)
        (self.pool, self.logger) = (pool, logger)
        isOpen = keys == nil
        ring = keys ?? Handshake.openRing!
        gate = AcceptGate(configuration)
        sendLimit = BulkLimit(bitsPerSecond: configuration.limits.send)
        receiveLimit = BulkLimit(bitsPerSecond: configuration.limits.receive)
    }

    /// A number for a connection or a request, never used twice.
    func nextKey() -> UInt64 { keys.add(1, ordering: .relaxed).newValue }
}

/// Counts accepted connections and holds their number down.
final class AcceptGate: Sendable {
    private struct Counts {
        var all = 0
        var strangers: [[UInt8]: Int] = [:]
        var peers: [NodeID: Int] = [:]
    }
    private let counts = Mutex(Counts())
    private let limits: (all: Int, strangers: Int, peers: Int)

    init(_ configuration: ExchangeConfiguration) {
        limits = (configuration.maxConnections, configuration.maxUnauthenticatedPerAddress, configuration.maxConnectionsPerPeer)
    }

    /// IPv6 hosts own a whole /64.
    private func group(_ address: NodeAddress) -> [UInt8] {
        address.isIPv6 && !address.isLoopback ? Array(address.ip.prefix(8)) : address.ip
    }

    func enter(_ address: NodeAddress) -> Bool {
        let group = group(address)
        return counts.withLock { counts in
            guard counts.all < limits.all, counts.strangers[group, default: 0] < limits.strangers else { return false }
            counts.all += 1
            counts.strangers[group, default: 0] += 1
            return true
        }
    }

    /// - Returns: `false` when the peer has too many connections; it still counts as entered until `leave`.
    func authenticate(_ address: NodeAddress, as peer: NodeID) -> Bool {
        let group = group(address)
        return counts.withLock { counts in
            Self.drop(group, from: &counts.strangers)
            counts.peers[peer, default: 0] += 1
            return counts.peers[peer, default: 0] <= limits.peers
        }
    }

    func leave(_ address: NodeAddress, peer: NodeID?) {
        let group = group(address)
        counts.withLock { counts in
            counts.all -= 1
            if let peer { Self.drop(peer, from: &counts.peers) } else { Self.drop(group, from: &counts.strangers) }
        }
    }

    private static func drop<K: Hashable>(_ key: K, from counts: inout [K: Int]) {
        let left = counts[key, default: 0] - 1
        counts[key] = left > 0 ? left : nil
    }
}

/// The figures of every peer.
final class TrafficBook: Sendable {
    private let peers = Mutex<[NodeID: PeerTraffic]>([:])

    var snapshot: [NodeID: PeerTraffic] { peers.withLock { $0 } }

    func count(_ peer: NodeID, _ change: (inout PeerTraffic) -> Void) {
        peers.withLock { peers in
            guard peers[peer] != nil || peers.count < ExchangeConfiguration.maxCountedPeers else { return }
            change(&peers[peer, default: PeerTraffic()])
        }
    }
}
