internal import ChunkModel
internal import Synchronization
internal import UpstreamStores

/// Whether this node reaches upstream at the moment, and by which way for which flist.
final class UpstreamState: Sendable {
    /// Failures in a row until the node stops offering itself as an owner.
    static let failureLimit = 3
    /// How long it rests then, before one more fetch is tried.
    static let rest: Duration = .seconds(5)

    /// Upstream of one flist does not answer.
    struct Trouble: Sendable, Equatable {
        /// The first failure after the last success.
        var since: Duration
        /// The last failure.
        var tried: Duration
        /// One line.
        var reason: String
    }

    private struct State {
        var failures = 0
        var restUntil: Duration = .zero
        /// What went wrong last; `nil` once a fetch went well again.
        var trouble: String?
        var operators: RoutedUpstream?
        var byFlist: [FlistDigest: RoutedUpstream] = [:]
        /// Of flists that are open.
        var troubles: [FlistDigest: Trouble] = [:]
    }
    private let state = Mutex(State())

    /// Hubs that the operator named, for chunks of any flist.
    func setOperators(_ upstream: RoutedUpstream?) { state.withLock { $0.operators = upstream } }

    func set(_ upstream: RoutedUpstream?, for flist: FlistDigest) {
        state.withLock { state in
            state.byFlist[flist] = upstream
            if upstream == nil { state.troubles[flist] = nil }
        }
    }

    func trouble(of flist: FlistDigest) -> Trouble? { state.withLock { $0.troubles[flist] } }

    /// Something of the flist was wanted from upstream, and did not come; only told to people.
    func noteTrouble(_ reason: String, of flist: FlistDigest, now: Duration) {
        state.withLock { state in
            // A peer may name any flist with the chunk that it asks for.
            guard state.byFlist[flist] != nil else { return }
            state.troubles[flist] = Trouble(since: state.troubles[flist]?.since ?? now, tried: now, reason: reason)
        }
    }

    func noteAnswer(of flist: FlistDigest) { state.withLock { $0.troubles[flist] = nil } }

    /// The way for chunks of `flist`; `nil` when this node may open none.
    func way(for flist: FlistDigest?) -> RoutedUpstream? {
        state.withLock { state in flist.flatMap { state.byFlist[$0] } ?? state.operators }
    }

    func hasWay(for flist: FlistDigest?) -> Bool { way(for: flist) != nil }

    func reaches(_ flist: FlistDigest?, now: Duration) -> Bool { hasWay(for: flist) && isUp(now: now) }

    func isUp(now: Duration) -> Bool { state.withLock { $0.restUntil <= now } }

    /// - Returns: whether the answer to `isUp` changed.
    func noteSuccess() -> Bool {
        state.withLock { state in
            let was = state.failures >= Self.failureLimit
            state.failures = 0
            state.restUntil = .zero
            state.trouble = nil
            return was
        }
    }

    /// One line for people, as long as upstream fails.
    var trouble: String? { state.withLock { $0.trouble } }

    /// Routes that can never be used: told to people, but no reason to rest, since the hubs of other flists may be well.
    func noteUnusable(_ reason: String) { state.withLock { $0.trouble = reason } }

    /// - Parameter reason: one line.
    /// - Returns: whether the answer to `isUp` changed.
    func noteFailure(_ reason: String, now: Duration) -> Bool {
        state.withLock { state in
            state.failures += 1
            state.trouble = reason
            guard state.failures >= Self.failureLimit, state.restUntil <= now else { return false }
            state.restUntil = now + Self.rest
            return true
        }
    }
}
