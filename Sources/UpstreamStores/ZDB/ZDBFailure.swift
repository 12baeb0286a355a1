internal import NIOCore
internal import NIOPosix
internal import Glibc

/// Why a command got no reply.
struct ZDBFailure: Error, Sendable {
    var kind: UpstreamFailureKind
    var retryable: Bool
    /// The cause, without the URL.
    var line: String
    /// Whether this command met the fault itself: of those that one dead connection took along, one blames the store for all.
    var isAtFault = true
    var isCancellation = false

    static let cancelled = ZDBFailure(kind: .other, retryable: false, line: "cancelled", isAtFault: false, isCancellation: true)
    static let stopped = ZDBFailure(kind: .other, retryable: false, line: "the store was closed", isAtFault: false)
    static let closed = ZDBFailure(kind: .broken, retryable: true, line: "the server closed the connection")

    static func late(_ what: String, _ limit: Duration) -> ZDBFailure {
        ZDBFailure(kind: .timeout, retryable: true, line: "\(what) within \(limit.spoken)")
    }

    /// No connection came about.
    static func connecting(_ error: any Error, limit: Duration) -> ZDBFailure {
        switch error {
        case ChannelError.connectTimeout: return late("no connection", limit)
        case let error as NIOConnectionError:
            guard let last = error.connectionErrors.last else {
                return ZDBFailure(kind: .connect, retryable: true, line: "the name \(ZDBAddress.printable(error.host)) cannot be resolved")
            }
            return connecting(last.error, limit: limit)
        default: return ZDBFailure(kind: .connect, retryable: true, line: "cannot connect: \(cause(error))")
        }
    }

    /// A connection failed while it was in use.
    static func broken(_ error: any Error) -> ZDBFailure {
        if let fault = error as? RESPFault {
            // Asking again for a value that is too long brings it again.
            if case .tooLong = fault { return ZDBFailure(kind: .tooLong, retryable: false, line: fault.description) }
            return ZDBFailure(kind: .broken, retryable: true, line: fault.description)
        }
        return ZDBFailure(kind: .broken, retryable: true, line: "the connection broke: \(cause(error))")
    }

    private static func cause(_ error: any Error) -> String {
        guard let error = error as? IOError else { return ZDBAddress.printable("\(error)") }
        return String(cString: strerror(error.errnoCode))
    }
}
