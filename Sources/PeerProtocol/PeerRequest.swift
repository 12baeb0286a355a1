public import ChunkModel

/// What a node asks of another.
public struct PeerRequest: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        /// A chunk's stored bytes; `flist` names a file that lists the chunk, so that an owner knows the routes to fetch it by.
        case chunk(ChunkID, ChunkMode, flist: FlistDigest?)
        /// Bytes of an flist file, at most `ProtocolLimits.maxPieceBytes`.
        case flistPiece(FlistDigest, offset: UInt64, length: Int)
        /// A small call; what `kind` and `payload` mean is the callers' affair. At most `ProtocolLimits.maxMessageBytes`.
        case message(kind: UInt8, payload: [UInt8])
    }

    public var kind: Kind
    public var priority: FetchPriority

    public init(_ kind: Kind, priority: FetchPriority = .foreground) {
        (self.kind, self.priority) = (kind, priority)
    }

    /// Why the request cannot be sent at all; `nil` when it can.
    public var fault: String? {
        switch kind {
        case .chunk: nil
        case .flistPiece(_, _, let length):
            (1...ProtocolLimits.maxPieceBytes).contains(length) ? nil : "an flist piece of \(length) bytes was asked for"
        case .message(_, let payload):
            payload.count <= ProtocolLimits.maxMessageBytes ? nil : "a message of \(payload.count) bytes is too long"
        }
    }

    /// The longest answer in bulk bytes that this request may get; 0 when it is answered by a message.
    var maxDataBytes: Int {
        switch kind {
        case .chunk: ProtocolLimits.maxDataBytes
        case .flistPiece(_, _, let length): length
        case .message: 0
        }
    }

    /// Answered by a message, not by bulk bytes.
    public var expectsMessage: Bool { if case .message = kind { true } else { false } }
}

/// How far a peer shall go for a chunk.
public enum ChunkMode: UInt8, Hashable, Sendable {
    /// Only when it stands in the peer's cache.
    case ifHeld = 0
    /// The peer shall fetch it (the request goes to the chunk's owner).
    case fetch = 1
    /// The peer speaks for another site: from its cache, or from any node of its site that holds it; never from upstream.
    case site = 2
    /// The peer is after it too: it shall send it as soon as it has it.
    case relay = 3
}

/// Why a peer will not answer, whatever the load.
public enum RefusalReason: UInt8, Hashable, Sendable, CustomStringConvertible {
    case notAllowed = 0
    case unknownKind = 1
    case tooLarge = 2
    case internalError = 3
    case upstreamFailed = 4
    case shuttingDown = 5
    /// It waits for the chunk at another node itself.
    case notOwner = 6
    /// Nothing that it may open leads to the chunk.
    case declined = 7

    public var description: String {
        switch self {
        case .notAllowed: "not allowed"
        case .unknownKind: "unknown kind of request"
        case .tooLarge: "too large"
        case .internalError: "internal error"
        case .upstreamFailed: "upstream failed"
        case .shuttingDown: "shutting down"
        case .notOwner: "not the owner at the moment"
        case .declined: "no upstream that it may open"
        }
    }
}

/// Why a request ended without an answer of the peer.
public enum PeerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No connection could be made: refused, unreachable, out of descriptors; the text says which.
    case connectFailed(String)
    /// The peer is not who was expected, holds another mesh key, or speaks another version.
    case handshakeFailed(String)
    case timedOut
    case closed
    case protocolViolation(String)
    /// Neither bytes nor a heartbeat in time.
    case stalled
    case cancelled
    /// This node's exchange was stopped.
    case stopped
    /// The request itself breaks a limit; nothing was sent.
    case invalidRequest(String)

    public var description: String {
        switch self {
        case .connectFailed(let why): "could not connect to the peer: \(why)"
        case .handshakeFailed(let why): "the peer's handshake failed: \(why)"
        case .timedOut: "the peer did not answer before the deadline"
        case .closed: "the peer closed the connection"
        case .protocolViolation(let what): "the peer broke the protocol: \(what)"
        case .stalled: "the peer went silent"
        case .cancelled: "the request was cancelled"
        case .stopped: "the exchange was stopped"
        case .invalidRequest(let why): "the request was not sent: \(why)"
        }
    }
}
