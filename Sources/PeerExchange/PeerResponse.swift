public import ChunkModel
public import PeerProtocol

/// What comes of a request: any number of `pending`, then exactly one of the others.
public enum PeerResponse: Sendable {
    /// The peer works on it.
    case pending
    /// The bytes that were asked for, as the peer sent them: not verified.
    case data(ChunkBuffer)
    case message([UInt8])
    case missing
    /// The peer (or this node's own queue for it) is full; ask again after `retryAfter`.
    case busy(retryAfter: Duration)
    case refused(RefusalReason)
    case failed(PeerError)

    public var isFinal: Bool { if case .pending = self { false } else { true } }
}

/// Names a request of this node's exchange.
public struct RequestID: Hashable, Sendable {
    let raw: UInt64
}

/// Traffic with one peer since the exchange started.
public struct PeerTraffic: Hashable, Sendable {
    /// Bulk and message bytes received from it.
    public var bytesIn: UInt64 = 0
    /// Bulk and message bytes sent to it as answers.
    public var bytesOut: UInt64 = 0
    public var requestsSent: UInt64 = 0
    public var requestsServed: UInt64 = 0
    /// Requests that timed out or stalled.
    public var timeouts: UInt64 = 0
    /// Requests that ended with another failure than a cancel of our own.
    public var failures: UInt64 = 0
    /// Its requests beyond what one peer may ask in a second; they were answered "busy".
    public var limited: UInt64 = 0
    /// Of the last handshake, network and peer together; `nil` before the first.
    public var roundTrip: Duration?
}
