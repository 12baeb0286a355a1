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

    /// The flist whose routes lead to it: of the first that wanted it and named one.
    var flist: FlistDigest?
    /// Counts up over the wants of this node: the older comes first.
    let age: UInt64
    var priority: FetchPriority
    /// Readers and jobs of this node. Zero: only peers wait, and then no other owner is asked, so that no two nodes can wait
    /// for each other.
    var localWaiters = 0
    /// All peers that wait for it here, and those of them that asked by `relay`.
    var peerWaiters = 0
    var relayWaiters = 0
    var attempts: [Attempt] = []
    /// Received from this peer and being verified, so that a failure falls back at once.
    var verifying: [RequestTag: NodeID] = [:]
    /// Owners and holders that did not help, until when they are left out for this chunk.
    var passedOver: [NodeID: Duration] = [:]
    var ownUpstream: OwnUpstream = .untried
    var standing: Standing = .busy
    /// What its valid entries in lines carry; zero while it stands in none.
    var ticket: UInt64 = 0
    /// When a source was last looked for.
    var lookedAt: Duration = .zero
    /// Rounds through all sources without success.
    var rounds = 0
    /// Answers "upstream does not have it", our own included.
    var missingAnswers = 0
    /// Failed ways to upstream in this round, our own included.
    var upstreamFailures = 0
    /// Owners that failed in this round although another site was said to have it.
    var siteFailures = 0
    /// Times in a row that the owner did not take itself for the owner.
    var refusals = 0
    var lastFailure: String?

    /// What a want without a source waits for.
    enum Standing: Sendable, Equatable {
        /// It has a source, or one is being looked for at this moment.
        case busy
        /// To be looked at in the next pass.
        case ready
        /// In the lines of the peers that could deliver it, until one has a free place.
        case parked
        /// Nothing is tried before this time.
        case resting(until: Duration)
    }

    enum OwnUpstream: Sendable { case untried, failed, missing }

    var isWaitedFor: Bool { localWaiters > 0 || peerWaiters > 0 }
    var isIdle: Bool { attempts.isEmpty && verifying.isEmpty }

    var isResting: Bool { if case .resting = standing { true } else { false } }

    /// Whether nothing is under way for it, but it stands in a line or rests.
    var isInLine: Bool {
        switch standing {
        case .parked, .resting: true
        case .ready: false
        case .busy: attempts.contains { if case .upstreamQueue = $0 { true } else { false } }
        }
    }

    /// Whether the chunk waits at another node that has yet to get it.
    var waitsAtPeer: Bool {
        attempts.contains {
            switch $0 {
            case .peer(_, let mode, _, _): mode != .ifHeld
            case .upstream, .upstreamQueue: false
            }
        }
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
