internal import ChunkModel
internal import MeshKeys

/// A chunk that somebody here waits for.
struct Want: Sendable {
    /// Where the chunk is expected from at this moment.
    enum Attempt: Sendable {
        case peer(NodeID, mode: AskMode, tag: RequestTag, since: Duration)
        /// In line for one of the upstream places.
        case upstreamQueue
        case upstream
    }

    let flist: FlistDigest?
    var priority: FetchPriority
    /// Readers and jobs of this node. Zero: only peers wait, and then no other owner is asked, so that no two nodes can wait
    /// for each other.
    var localWaiters = 0
    var peerWaiters = 0
    var attempts: [Attempt] = []
    /// Received from this peer and being verified, so that a failure falls back at once.
    var verifying: [RequestTag: NodeID] = [:]
    /// Owners and holders that did not help, until when they are left out for this chunk.
    var passedOver: [NodeID: Duration] = [:]
    var ownUpstream: OwnUpstream = .untried
    /// Nothing is tried before this time.
    var notBefore: Duration = .zero
    /// Rounds through all sources without success.
    var rounds = 0
    var lastFailure: String?

    enum OwnUpstream: Sendable { case untried, failed, missing }

    var isWaitedFor: Bool { localWaiters > 0 || peerWaiters > 0 }
    var isIdle: Bool { attempts.isEmpty && verifying.isEmpty }

    /// Whether the chunk waits at another node that acts as its owner.
    var waitsAtOwner: Bool {
        attempts.contains { if case .peer(_, .fetch, _, _) = $0 { true } else { false } }
    }
    var isAtUpstream: Bool {
        attempts.contains {
            switch $0 {
            case .upstream, .upstreamQueue: true
            case .peer: false
            }
        }
    }
}
