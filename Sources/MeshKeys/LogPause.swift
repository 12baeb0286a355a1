internal import Synchronization

/// Says once in a while that something happens, so that no stranger who knocks at a port fills the log.
package final class LogPause: Sendable {
    /// Between two lines, nanoseconds.
    package static let length: UInt64 = 60_000_000_000
    private struct State {
        var next: UInt64 = 0
        var passed: UInt64 = 0
    }
    private let state = Mutex(State())

    package init() {}

    /// - Returns: how often it happened since the last line, this time included, when a line is due.
    package func due(now: UInt64) -> UInt64? {
        state.withLock { state in
            state.passed += 1
            guard now >= state.next else { return nil }
            defer { state.passed = 0 }
            state.next = now &+ Self.length
            return state.passed
        }
    }
}
