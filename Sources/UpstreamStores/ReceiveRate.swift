internal import Synchronization

/// A token bucket whose level may fall below zero: bytes that arrived were received, wanted or not, and are paid off before
/// the next ones are let in. A value without a clock.
struct TokenBucket: Sendable {
    /// Bytes per second; at least 1.
    let rate: Double
    /// How much may arrive at once after a pause: a quarter of a second's worth, at least 64 KiB.
    let burst: Double
    private var level: Double
    private var filledAt: ContinuousClock.Instant

    init(bytesPerSecond: Int, now: ContinuousClock.Instant) {
        rate = Double(max(bytesPerSecond, 1))
        burst = max(rate / 4, 65_536)
        level = burst
        filledAt = now
    }

    /// How long until bytes may be received again; zero when they may now.
    mutating func delay(now: ContinuousClock.Instant) -> Duration {
        fill(now)
        return level > 0 ? .zero : .seconds((1 - level) / rate)
    }

    mutating func charge(_ bytes: Int, now: ContinuousClock.Instant) {
        fill(now)
        level -= Double(bytes)
    }

    private mutating func fill(_ now: ContinuousClock.Instant) {
        guard now > filledAt else { return }
        level = min(burst, level + (now - filledAt).seconds * rate)
        filledAt = now
    }
}

/// The rate that all transfers of a node keep to together. Transfers over it are paused, those of high priority resume first.
public final class ReceiveRate: Sendable {
    private let bucket = Mutex<TokenBucket?>(nil)

    public init(bytesPerSecond: Int? = nil) { set(bytesPerSecond: bytesPerSecond) }

    /// Changes the rate from now on; `nil` takes the limit away. Below 1 counts as 1: closing the upstream is the gate's part.
    public func set(bytesPerSecond: Int?) {
        let now = ContinuousClock.now
        bucket.withLock { $0 = bytesPerSecond.map { TokenBucket(bytesPerSecond: $0, now: now) } }
    }

    func delay() -> Duration {
        let now = ContinuousClock.now
        return bucket.withLock { $0?.delay(now: now) ?? .zero }
    }

    func charge(_ bytes: Int) {
        let now = ContinuousClock.now
        bucket.withLock { $0?.charge(bytes, now: now) }
    }
}
