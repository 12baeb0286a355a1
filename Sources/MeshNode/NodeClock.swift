internal import Glibc

/// Monotonic time, counted from the start of the node: never the wall clock, which may jump.
struct NodeClock: Sendable {
    private let start = NodeClock.nanoseconds()

    var now: Duration { .nanoseconds(Int64(Self.nanoseconds() - start)) }

    static func nanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

extension Duration {
    var seconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) * 1e-18
    }
}
