/// Virtual time: what is to happen, by time and then by the order in which it was planned.
struct SwarmClock {
    private(set) var now: Duration = .zero
    private var queue = EventQueue<() -> Void>()

    mutating func schedule(at time: Duration, _ action: @escaping () -> Void) {
        queue.put(action, at: Self.nanoseconds(max(time, now)))
    }

    /// Moves the clock to the next event and returns what is to be done.
    mutating func next() -> (() -> Void)? {
        guard let (time, action) = queue.take() else { return nil }
        now = .nanoseconds(Int64(clamping: time))
        return action
    }

    /// Rounded up, so that nothing happens before its time. A swarm's times are never negative, and minutes, not centuries.
    private static func nanoseconds(_ time: Duration) -> UInt64 {
        let (seconds, attoseconds) = time.components
        return UInt64(clamping: seconds) &* 1_000_000_000 &+ UInt64(clamping: (attoseconds + 999_999_999) / 1_000_000_000)
    }
}
