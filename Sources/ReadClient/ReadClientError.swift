internal import ReadProtocol

/// Why a daemon's content was not had.
public struct ReadClientError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// There is no such flist, inode or chunk anywhere.
        case notFound
        /// No source answers.
        case unavailable
        /// The request makes no sense.
        case badRequest
        /// The flist says something of the file that cannot be.
        case damaged
        /// The daemon keeps no whole decoded files, or not this one.
        case notKept
        /// No answer within the deadline.
        case timedOut
        /// No daemon within the deadline.
        case noDaemon
        /// Taken back, or the client was closed.
        case cancelled
        /// The daemon answered what it may not, or this machine lacks something.
        case broken
    }

    public let code: Code
    /// One line: what is wrong, where, what to do.
    public let description: String

    public init(_ code: Code, _ description: String) { (self.code, self.description) = (code, description) }

    init(answer code: ReadErrorCode, _ message: String) {
        self.description = message
        self.code =
            switch code {
            case .notFound: .notFound
            case .unavailable, .busy, .stopping: .unavailable
            case .badRequest: .badRequest
            case .damaged: .damaged
            case .cancelled: .cancelled
            case .notKept: .notKept
            }
    }
}
