internal import Synchronization
internal import UpstreamStores

/// Keeps the site's rate limit: every node that fetches takes an equal share of it.
final class SiteUpstream: Sendable {
    private struct State {
        var curl: CurlMulti?
        /// Bits a second.
        var maxRate: UInt64?
        var nodes = 0
    }
    private let state = Mutex(State())

    func set(curl: CurlMulti, maxRate: UInt64?) { state.withLock { ($0.curl, $0.maxRate) = (curl, maxRate) } }

    /// A limit from now on, or none.
    func setRate(_ rate: UInt64?, among nodes: Int) {
        state.withLock { ($0.maxRate, $0.nodes) = (rate, 0) }
        share(among: nodes)
    }

    /// - Parameter nodes: that may fetch from upstream, this one included.
    func share(among nodes: Int) {
        let change = state.withLock { state -> (CurlMulti, Int?)? in
            guard let curl = state.curl, state.nodes != nodes else { return nil }
            state.nodes = nodes
            return (curl, state.maxRate.map { max(1, Int(clamping: $0 / 8) / max(1, nodes)) })
        }
        if let (curl, bytes) = change { curl.rate.set(bytesPerSecond: bytes) }
    }
}
