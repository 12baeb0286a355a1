internal import ChunkModel
internal import MeshKeys
internal import Synchronization

/// What the node counts at the places where it happens.
final class NodeCounters: Sendable {
    struct Source: Sendable {
        var chunks: UInt64 = 0
        var bytes: UInt64 = 0
    }
    struct Values: Sendable {
        var local = Source()
        var peers = Source()
        var upstream = Source()
        var toPeers = Source()
        /// From and to nodes of other sites.
        var sites = Source()
        var toSites = Source()
        var notStored: UInt64 = 0
        var verifyFailedPeers: UInt64 = 0
        var verifyFailedUpstream: UInt64 = 0
        var peerFailures: UInt64 = 0
        var upstreamErrors: UInt64 = 0
        /// Wrong chunks by sender; nodes beyond `maxBlamed` are counted in the sum only.
        var blame: [NodeID: UInt64] = [:]
    }
    /// Senders of wrong chunks that are remembered by name.
    static let maxBlamed = 1024

    private let values = Mutex(Values())

    var snapshot: Values { values.withLock { $0 } }

    func add(_ change: (inout Values) -> Void) { values.withLock { change(&$0) } }

    func arrived(from origin: ChunkOrigin, bytes: Int) {
        add { values in
            switch origin {
            case .local: values.local.add(bytes)
            case .peer: values.peers.add(bytes)
            case .upstream: values.upstream.add(bytes)
            case .site: values.sites.add(bytes)
            }
        }
    }

    func blame(_ node: NodeID) {
        add { values in
            values.verifyFailedPeers += 1
            if values.blame[node] != nil || values.blame.count < Self.maxBlamed { values.blame[node, default: 0] += 1 }
        }
    }
}

extension NodeCounters.Source {
    mutating func add(_ count: Int) {
        chunks += 1
        bytes += UInt64(count)
    }
}
