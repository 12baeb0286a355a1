internal import Synchronization
internal import UpstreamStores

/// Keeps the site's rate limit: every node that fetches takes an equal share of it.
final class SiteUpstream: Sendable {
    private struct State {
        /// Bits a second; `nil` is no limit.
        var maxRate: UInt64?
        var nodes = 1
    }
    private let rate: ReceiveRate
    private let state: Mutex<State>

    init(_ rate: ReceiveRate, maxRate: UInt64?) {
        self.rate = rate
        state = Mutex(State(maxRate: maxRate))
        apply()
    }

    /// A limit from now on, or none.
    func setRate(_ maxRate: UInt64?) {
        state.withLock { $0.maxRate = maxRate }
        apply()
    }

    /// - Parameter nodes: that may fetch from upstream, this one included.
    func share(among nodes: Int) {
        let isNew = state.withLock { state in
            defer { state.nodes = max(1, nodes) }
            return state.nodes != max(1, nodes)
        }
        if isNew { apply() }
    }

    private func apply() {
        rate.set(bytesPerSecond: state.withLock { state in state.maxRate.map { max(1, Int(clamping: $0 / 8) / state.nodes) } })
    }
}
