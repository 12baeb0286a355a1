public import ChunkModel
public import MeshKeys

/// Names one request to a peer, so that its answer finds the attempt it belongs to.
public struct RequestTag: Hashable, Sendable {
    public let value: UInt64
    public init(value: UInt64) { self.value = value }
}

/// What a peer is asked to do about a chunk.
public enum AskMode: Sendable, Equatable {
    /// Send it if you have it, else say so.
    case ifHeld
    /// You are its owner: get it from upstream if you do not have it, and send it.
    case fetch
    /// You speak for another site: send it if any node of your site has it, else say so.
    case site
    /// You are after it too, and stand above us in its ranking: send it as soon as you have it.
    case relay
}

/// What the shell has to do now, in this order.
public enum FetchAction: Sendable, Equatable {
    case ask(NodeID, ChunkID, flist: FlistDigest?, mode: AskMode, priority: FetchPriority, tag: RequestTag)
    case cancel(RequestTag)
    case fetchUpstream(ChunkID, flist: FlistDigest?, priority: FetchPriority)
    /// Stop it if it still runs; comes also for one that has just ended with `arrived`.
    case cancelUpstream(ChunkID)
    /// A reader waits now for what is being fetched from upstream as a prefetch.
    case hastenUpstream(ChunkID)
    /// Our way to upstream failed for this chunk: the peers that wait for it here are told (`missing` or `upstreamFailed`), and
    /// the planner has forgotten them. Those who wait in this node go on waiting.
    case failPeers(ChunkID, FetchFailure)
    /// The peer said that it has a chunk and did not: forget that claim.
    case dropStaleClaim(NodeID, ChunkID)
    /// The peer's TCP side is gone or silent: let gossip look at once.
    case suspect(NodeID)
    /// Nobody could deliver it; all its waiters are to be told, and the planner has forgotten it.
    case fail(ChunkID, FetchFailure)
}

/// What the line to upstream is open for. What is under way is finished in any case, since its bytes are paid for.
public enum LineGate: Sendable, Equatable {
    case open
    /// Prefetches and read-ahead wait.
    case readsOnly
    /// Prefetches wait; readers are told the reason, one line.
    case closed(String)
}

/// Why a chunk could not be had.
public enum FetchFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// Upstream answered, and does not have it.
    case missing
    /// No peer has it and no node of the site reaches an upstream that might.
    case unreachable(String)

    public var description: String {
        switch self {
        case .missing: "no peer holds it and the hub does not have it"
        case .unreachable(let reason): reason
        }
    }
}

/// How a request to a peer ended, or how it goes on.
public enum PeerAnswer: Sendable, Equatable {
    /// Still at work on it: a sign of life.
    case pending
    /// All bytes are here, being verified: the peer is free for the next request.
    case received
    /// The bytes were not the chunk.
    case corrupt
    /// It does not hold the chunk (`ifHeld`), nobody at its site does (`site`), or upstream told it that the chunk does not exist (`fetch`).
    case missing
    case busy(retryAfter: Duration)
    /// It will not fetch chunks of this flist from upstream (unknown flist, no route that it may use).
    case declined
    /// It does not take itself for the owner at this moment.
    case notOwner
    /// It is the owner, but its upstream failed.
    case upstreamFailed
    /// Connection refused, reset, timed out or stalled.
    case failed
}

/// How a fetch from upstream ended.
public enum UpstreamAnswer: Sendable, Equatable {
    case missing
    case failed(String)
}
