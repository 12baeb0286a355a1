internal import Synchronization

/// What happened upstream since the start of the process.
public struct UpstreamStatistics: Sendable, Equatable {
    /// Requests sent, over HTTP or as RESP commands; redirects not counted.
    public var requests = 0
    /// Connections opened; far fewer than requests when connections are kept alive.
    public var connections = 0
    /// Body bytes received over HTTP, of whatever status, also of transfers that failed later.
    public var bodyBytes = 0
    /// Response header bytes received over HTTP.
    public var headerBytes = 0
    /// Chunks delivered, of any scheme.
    public var chunks = 0
    /// Bytes read from `dir://` stores.
    public var directoryBytes = 0
    /// Bytes of values received from zdb and redis.
    public var valueBytes = 0
    /// Chunks put into stores, and their bytes.
    public var storedChunks = 0
    public var storedBytes = 0
    /// Answers "not here" (HTTP 404, no such file), one for each layout asked.
    public var missing = 0
    /// Attempts made again after a failure.
    public var retries = 0
    /// Chunks whose bytes did not hash to their id.
    public var badContent = 0
    /// Fetches turned away since the upstream rests after failures.
    public var resting = 0
    /// Failed attempts by kind; `badContent` and `resting` are not among them.
    public var failures: [UpstreamFailureKind: Int] = [:]

    public init() {}

    /// All failed attempts together.
    public var failureCount: Int { failures.values.reduce(0, +) }
    /// All bytes that came from stores.
    public var receivedBytes: Int { bodyBytes + directoryBytes + valueBytes }

    static func += (sum: inout Self, more: Self) {
        for field in [
            \.requests, \.connections, \.bodyBytes, \.headerBytes, \.chunks, \.directoryBytes, \.valueBytes, \.storedChunks, \.storedBytes,
            \.missing, \.retries, \.badContent, \.resting,
        ] as [WritableKeyPath<Self, Int>] {
            sum[keyPath: field] &+= more[keyPath: field]
        }
        sum.failures.merge(more.failures) { $0 &+ $1 }
    }
}

/// What went wrong in one attempt.
public enum UpstreamFailureKind: String, Sendable, CaseIterable {
    /// Name not resolved, connection refused, no route.
    case connect
    /// Connect, low-speed or total time-out.
    case timeout
    /// Certificate or handshake.
    case tls
    /// A status other than 200, 304 and 404.
    case status
    /// The connection ended before the declared end of the body, or broke the protocol.
    case broken
    /// More bytes than allowed.
    case tooLong
    /// Too many redirects, or to a scheme other than http and https.
    case redirect
    /// A file could not be read or written.
    case file
    case other
}

/// Counts of one upstream, or of a whole node with all its upstreams.
public final class UpstreamCounters: Sendable {
    private let counts = Mutex(UpstreamStatistics())
    private let whole: UpstreamCounters?

    /// - Parameter whole: counts the same again, with what others count.
    public init(within whole: UpstreamCounters? = nil) { self.whole = whole }

    public var snapshot: UpstreamStatistics { counts.withLock { $0 } }

    func add(_ change: (inout UpstreamStatistics) -> Void) {
        counts.withLock { change(&$0) }
        whole?.add(change)
    }

    func add(failure kind: UpstreamFailureKind) { add { $0.failures[kind, default: 0] += 1 } }
}
