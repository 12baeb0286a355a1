internal import Synchronization

/// Notices that this process stood still (stopped, or its virtual machine was): what it believes of the others is old then, and it fetches
/// nothing from upstream until it has heard them again.
final class Standstill: Sendable {
    /// Nobody looked for so long: the node's ticker looks every second.
    static let gap: Duration = .seconds(3)
    /// How long it listens afterwards.
    static let grace: Duration = .seconds(2)

    private struct State {
        var last: Duration?
        var graceUntil: Duration = .zero
        var count: UInt64 = 0
    }
    private let state = Mutex(State())

    /// - Returns: whether the node has just come to itself again.
    func isFresh(_ now: Duration) -> Bool {
        state.withLock { state in
            if let last = state.last, now - last > Self.gap {
                state.graceUntil = now + Self.grace
                state.count += 1
            }
            state.last = max(state.last ?? now, now)
            return now < state.graceUntil
        }
    }

    /// Times that it happened.
    var count: UInt64 { state.withLock { $0.count } }
}
