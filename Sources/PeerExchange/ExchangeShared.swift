internal import ChunkModel
internal import Logging
internal import MeshKeys
internal import PeerProtocol
internal import Synchronization

/// What all threads of one exchange use together.
final class ExchangeShared: Sendable {
    let configuration: ExchangeConfiguration
    let identity: NodeIdentity
    let isOpen: Bool
    let handler: any PeerRequestHandler
    let pool: ChunkBufferPool
    let logger: Logger
    let gate: AcceptGate
    let traffic = TrafficBook()
    let sendLimit: BulkLimit
    let receiveLimit: BulkLimit
    let hellos = HelloMemory()
    let rates = RequestRates()
    let strangerLog = LogPause()
    let keptOutLog = LogPause()
    private struct Access {
        var ring: MeshKeyRing
        var members = MemberGate()
        var strangers = StrangerCounters()
        /// Keys to greet peers with that did not answer to the first one: they may have been away in a rotation.
        var greetings: [NodeID: MeshKeyFingerprint] = [:]
    }
    private let access: Mutex<Access>
    private let keys = Atomic<UInt64>(16)

    init(
        configuration: ExchangeConfiguration, identity: NodeIdentity, keys: MeshKeyRing?, handler: any PeerRequestHandler,
        pool: ChunkBufferPool, logger: Logger
    ) {
        (self.configuration, self.identity, self.handler) = (configuration, identity, handler)
        (self.pool, self.logger) = (pool, logger)
        isOpen = keys == nil
        access = Mutex(Access(ring: keys ?? Handshake.openRing!))
        gate = AcceptGate(configuration)
        sendLimit = BulkLimit(bitsPerSecond: configuration.limits.send)
        receiveLimit = BulkLimit(bitsPerSecond: configuration.limits.receive)
    }

    var ring: MeshKeyRing { access.withLock { $0.ring } }
    func setRing(_ ring: MeshKeyRing) { access.withLock { $0.ring = ring } }
    func greeting(for peer: NodeID) -> MeshKeyFingerprint? { access.withLock { $0.greetings[peer] } }

    /// The peer did not answer a greeting: the next one is made with the next key of the ring.
    func noteUnanswered(_ peer: NodeID) {
        access.withLock { access in
            let keys = access.ring.fingerprints
            guard keys.count > 1 else { return access.greetings = [:] }
            let last = access.greetings[peer].flatMap { keys.firstIndex(of: $0) } ?? 0
            if access.greetings.count >= ExchangeConfiguration.maxCountedPeers { access.greetings = [:] }
            access.greetings[peer] = keys[(last + 1) % keys.count]
        }
    }

    func setMembers(_ members: MemberGate) { access.withLock { $0.members = members } }
    func refusal(of peer: NodeID) -> MemberGate.Refusal? { access.withLock { $0.members.refusal(of: peer) } }
    var strangers: StrangerCounters { access.withLock { $0.strangers } }
    func count(_ change: (inout StrangerCounters) -> Void) { access.withLock { change(&$0.strangers) } }

    /// A number for a connection or a request, never used twice.
    func nextKey() -> UInt64 { keys.add(1, ordering: .relaxed).newValue }
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
