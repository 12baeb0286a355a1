/// Sizes and counts that both ends of the local read protocol hold each other to.
public enum ReadLimits {
    /// Version spoken; the server closes a connection that says hello with another one, after saying which it speaks.
    public static let version: UInt16 = 1
    /// Bytes of one frame's body. A longer one is a violation: the connection ends.
    public static let maxFrameBytes = 16 * 1024
    /// Bytes of an flist's name, path or URL in a request; longer ones are a violation.
    public static let maxNameBytes = 4096
    /// Bytes of the line that goes with an error; longer ones are cut.
    public static let maxMessageBytes = 1024
    /// Bytes that one read asks for; more is a violation. Clients cut longer reads.
    public static let maxReadBytes = 1 << 20
    /// Bytes of one inline answer, a whole read.
    public static let maxInlineBytes = maxReadBytes
    /// Requests that a server holds for one connection; further ones are answered "busy".
    public static let maxRequests = 256
    /// Requests that a client keeps under way: half of what a server takes, so that it is not turned away. Further ones wait in the client.
    public static let maxRequestsUnderWay = 128
    /// Flists that one connection has open; a further one is answered "busy".
    public static let maxFlists = 64
    /// Descriptors of decoded files that a client keeps; beyond, it lets go of those used longest ago.
    public static let maxHeldContents = 512
}

/// What the other end did against the protocol; the connection ends, with this line in the log.
public struct ReadViolation: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// Why a request was not answered with content.
public enum ReadErrorCode: UInt8, Hashable, Sendable, CaseIterable {
    /// There is no such flist, inode or chunk anywhere.
    case notFound = 0
    /// It cannot be had now: no source answers.
    case unavailable = 1
    /// Too much is asked at once, or the daemon is still starting: ask again later.
    case busy = 2
    /// The request makes no sense: a directory is read, a number is out of range.
    case badRequest = 3
    /// The flist says something of the file that cannot be.
    case damaged = 4
    /// The client took the request back.
    case cancelled = 5
    /// Whole files are not kept: the cache of decoded files is off, or has no room for this one.
    case notKept = 6
    /// The daemon is stopping: ask the next one.
    case stopping = 7
}
