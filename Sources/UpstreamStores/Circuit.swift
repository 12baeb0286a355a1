/// When an upstream that fails is left alone. A value without a clock.
struct Circuit: Sendable {
    struct Limits: Sendable, Equatable {
        /// Failures in a row after which the upstream rests.
        var failures = 3
        /// The first rest; each further one is twice as long …
        var firstRest: Duration = .seconds(2)
        /// … up to this.
        var longestRest: Duration = .seconds(10)
    }

    enum Admission: Sendable, Equatable {
        case go
        /// The one attempt that finds out whether the upstream is back.
        case probe
        case resting(Duration, reason: String)
    }

    private enum State: Sendable {
        /// Asked freely; becomes `resting` after too many failures.
        case closed(failures: Int)
        /// Not asked until then; becomes `probing` afterwards.
        case resting(until: ContinuousClock.Instant, rest: Duration)
        /// One attempt is under way; becomes `closed` or, longer, `resting`.
        case probing(rest: Duration)
    }

    private let limits: Limits
    private var state = State.closed(failures: 0)
    private var reason = ""

    init(_ limits: Limits) { self.limits = limits }

    mutating func admit(now: ContinuousClock.Instant) -> Admission {
        switch state {
        case .closed: return .go
        case .resting(let until, let rest):
            guard now >= until else { return .resting(until - now, reason: reason) }
            state = .probing(rest: rest)
            return .probe
        case .probing: return .resting(.zero, reason: reason)
        }
    }

    /// How long the upstream still rests, and why; `nil` when it may be asked. Changes nothing.
    func rest(now: ContinuousClock.Instant) -> (Duration, reason: String)? {
        switch state {
        case .closed: nil
        case .resting(let until, _): now < until ? (until - now, reason) : nil
        case .probing: (.zero, reason)
        }
    }

    /// In the words of `UpstreamReport`.
    var health: UpstreamReport.State {
        switch state {
        case .closed(0): .well
        case .closed: .failing
        case .resting, .probing: .resting
        }
    }

    /// The upstream answered as it should, be it with "not found".
    mutating func succeeded() { state = .closed(failures: 0) }

    /// - Parameter pause: what the upstream itself asked for.
    mutating func failed(now: ContinuousClock.Instant, reason: String, pause: Duration? = nil) {
        self.reason = reason
        switch state {
        case .closed(let failures):
            if let pause {
                state = .resting(until: now + min(pause, limits.longestRest), rest: limits.firstRest)
            } else if failures + 1 >= limits.failures {
                state = .resting(until: now + limits.firstRest, rest: limits.firstRest)
            } else {
                state = .closed(failures: failures + 1)
            }
        case .probing(let rest):
            let longer = min(rest * 2, limits.longestRest)
            state = .resting(until: now + longer, rest: longer)
        case .resting: break  // An attempt from before the rest.
        }
    }

    /// The probe ended without an answer, because nobody waits for it any more: the next caller probes.
    mutating func probeAbandoned(now: ContinuousClock.Instant) {
        if case .probing(let rest) = state { state = .resting(until: now, rest: rest) }
    }
}
