internal import Glibc
internal import Synchronization

/// How often and how soon a failed request is made again: exponential with full jitter, so that the nodes of a site do not
/// return at the same moment.
public struct RetryLimits: Sendable, Equatable {
    /// Attempts in all, the first included; then the failure is the caller's.
    public var attempts: Int
    /// The longest wait before the second attempt; doubles with each further one …
    public var firstWait: Duration
    /// … up to this.
    public var longestWait: Duration
    /// A server's Retry-After is obeyed up to this; with a longer one the request fails at once.
    public var longestRetryAfter: Duration

    public init(
        attempts: Int = 3, firstWait: Duration = .milliseconds(250), longestWait: Duration = .seconds(4),
        longestRetryAfter: Duration = .seconds(10)
    ) {
        (self.attempts, self.firstWait) = (attempts, firstWait)
        (self.longestWait, self.longestRetryAfter) = (longestWait, longestRetryAfter)
    }

    /// The wait after attempt number `attempt` (from 1) failed; `nil` to give up.
    ///
    /// - Parameter fraction: evenly spread over 0…1.
    func wait(after attempt: Int, retryAfter: Duration?, fraction: Double) -> Duration? {
        guard attempt < attempts else { return nil }
        if let retryAfter, retryAfter > longestRetryAfter { return nil }
        var bound = firstWait
        for _ in 1..<max(attempt, 1) { bound = min(bound * 2, longestWait) }
        return max(min(bound, longestWait) * fraction, retryAfter ?? .zero)
    }
}

/// A random generator that several tasks share; tests bring a seeded one.
public final class UpstreamRandom: Sendable {
    private let generator: Mutex<any RandomNumberGenerator & Sendable>

    public init(_ generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator()) { self.generator = Mutex(generator) }

    /// Evenly spread over 0..<1.
    func fraction() -> Double {
        generator.withLock { Double($0.next() >> 11) / Double(1 << 53) }
    }
}

/// `base` to the power of `exponent`.
func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }
