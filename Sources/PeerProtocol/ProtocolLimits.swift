internal import ChunkModel

/// Sizes, counts and times that both ends of an exchange connection hold each other to.
public enum ProtocolLimits {
    /// Version spoken; another one is refused with a clear line in the log of both ends.
    public static let version: UInt16 = 2
    /// Bytes of message payload in one frame; a longer message goes out in several.
    public static let messagePieceBytes = 60 * 1024
    /// Plain bytes of one piece of bulk data where it is sealed.
    public static let sealedPieceBytes = 60 * 1024
    /// Bytes of a whole message. A longer one is refused by the sender and is a protocol violation for the receiver.
    public static let maxMessageBytes = 4 * 1024 * 1024
    /// Bytes of one piece of an flist file. A request for more is a protocol violation.
    public static let maxPieceBytes = 512 * 1024
    /// Bytes of one bulk transfer. A longer announcement drops the connection before anything is allocated.
    public static let maxDataBytes = ChunkLimits.maxStoredBytes
    /// Requests that a server holds for one connection; further ones are answered "busy".
    public static let maxWaitingRequests = 256
    /// Message bytes that a server holds for one connection's waiting requests; further messages are answered "busy".
    public static let maxWaitingMessageBytes = 16 * 1024 * 1024
    /// Small answers that wait to be written; while there are as many, the connection is not read (the client feels it through TCP).
    public static let maxWaitingFrames = 512
    /// What a busy server asks its client to wait, in milliseconds.
    public static let busyRetryMilliseconds: UInt32 = 100
    /// Requests that a client has under way on one connection: half of what a server accepts, so that it is not turned away.
    public static let maxRequestsUnderWay = 128
    /// Requests that a client keeps for one peer, under way and waiting; further ones end at once with "busy".
    public static let maxRequestsKept = 4096
    /// The longest deadline of a request, in milliseconds (10 minutes); longer ones are cut to it.
    public static let maxDeadlineMilliseconds: UInt32 = 600_000
}

/// The times that govern a connection, in nanoseconds. Tests shorten them.
public struct ProtocolTimes: Sendable {
    /// A server tells this often that it still works on a request.
    public var heartbeat: UInt64 = 500_000_000
    /// A request of which nothing was heard for this long has failed (four heartbeats). Time in which bulk bytes of another
    /// request arrive is not counted, since no frame can pass them.
    public var requestStall: UInt64 = 2_000_000_000
    /// Bulk data that began and then stands still for this long drops the connection.
    public var dataStall: UInt64 = 4_000_000_000
    /// A connection without requests is closed after this time.
    public var idle: UInt64 = 30_000_000_000
    public init() {}
}

/// What the other end did against the protocol; the connection ends, with this line in the log.
public struct ProtocolViolation: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}
