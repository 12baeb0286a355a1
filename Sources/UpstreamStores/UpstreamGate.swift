internal import ChunkModel
internal import Synchronization

/// What requests to an upstream keep to.
public struct UpstreamLimits: Sendable, Equatable {
    /// Requests at one time to one upstream; further ones wait, the urgent ones in front.
    public static let defaultConcurrency = 16

    public var transfer: TransferLimits
    public var retry: RetryLimits
    public var concurrency: Int
    /// A request to an upstream that rests after failures waits for the end of the rest if the upstream was well so long ago at most;
    /// otherwise, and always with zero, it is turned away at once. Zero is for those who have other sources to ask meanwhile.
    public var patience: Duration
    /// When an upstream that fails is left alone.
    var circuit = Circuit.Limits()

    public init(
        transfer: TransferLimits = .chunk, retry: RetryLimits = RetryLimits(), concurrency: Int = UpstreamLimits.defaultConcurrency,
        patience: Duration = .zero
    ) {
        (self.transfer, self.retry, self.concurrency, self.patience) = (transfer, retry, concurrency, patience)
    }
}

/// How one upstream is doing, for people.
public struct UpstreamReport: Sendable, Equatable {
    public enum State: String, Sendable {
        /// The last attempt was answered as it should be, or there was none.
        case well
        /// Failed last, and is asked again.
        case failing
        /// Failed several times in a row, and is left alone for a while.
        case resting
    }

    /// The URL without credentials.
    public var label: String
    public var state: State
    public var statistics: UpstreamStatistics
    /// One line; stays after the upstream is well again.
    public var lastError: String?
    /// Requests under way, and those that wait for one of them to end.
    public var active: Int
    public var waiting: Int
}

/// Stands before one upstream, whatever its scheme: lets so many requests through at a time, repeats those that failed for a passing
/// reason, leaves the upstream alone for a while after failures in a row, and counts.
public final class UpstreamGate: Sendable {
    private struct State {
        var circuit: Circuit
        var lastError: String?
        /// When the upstream answered last as it should.
        var lastWell: ContinuousClock.Instant
    }

    /// The part of the patience that is left to an upstream that has never answered.
    private static let startingPatience: Duration = .seconds(5)
    /// The longest sleep while an upstream rests, before it is looked at again.
    private static let longestPause: Duration = .milliseconds(500)

    /// The URL without credentials.
    public let label: String
    /// Of this upstream alone.
    public let counters: UpstreamCounters
    private let retry: RetryLimits
    private let random: UpstreamRandom
    private let places: Places
    private let patience: Duration
    private let state: Mutex<State>

    /// - Parameter counters: of the node, which count along.
    public init(
        label: String, limits: UpstreamLimits = UpstreamLimits(), counters: UpstreamCounters, random: UpstreamRandom = UpstreamRandom()
    ) {
        self.label = label
        self.counters = UpstreamCounters(within: counters)
        (retry, patience, self.random) = (limits.retry, limits.patience, random)
        places = Places(limits.concurrency)
        let start = ContinuousClock.now - max(.zero, limits.patience - Self.startingPatience)
        state = Mutex(State(circuit: Circuit(limits.circuit), lastWell: start))
    }

    /// Requests that the upstream may be asked at one time.
    var concurrency: Int { places.count }

    public var report: UpstreamReport {
        let (health, lastError) = state.withLock { ($0.circuit.health, $0.lastError) }
        let load = places.load
        return UpstreamReport(
            label: label, state: health, statistics: counters.snapshot, lastError: lastError, active: load.active, waiting: load.waiting)
    }

    /// Runs `attempt` until it succeeds, fails for good, or was made as often as the limits allow.
    ///
    /// The attempt counts its own failures (by kind) and misses in `counters`, and gives up when its task is cancelled.
    func run<T>(_ priority: FetchPriority, _ attempt: () async throws(AttemptFailure) -> T) async throws(UpstreamError) -> T {
        var number = 1
        while true {
            let failure: AttemptFailure
            do throws(AttemptFailure) {
                return try await admitted(priority, attempt)
            } catch {
                failure = error
            }
            if failure.isResting, patience > .zero, ContinuousClock.now - state.withLock({ $0.lastWell }) < patience {
                do { try await Task.sleep(for: Self.longestPause * max(0.1, random.fraction())) } catch { throw .cancelled }
                continue
            }
            guard failure.error.isRetryable, !failure.isResting,
                let wait = retry.wait(after: number, retryAfter: failure.retryAfter, fraction: random.fraction())
            else { throw failure.error }
            // Without a place: others go on meanwhile.
            do { try await Task.sleep(for: wait) } catch { throw .cancelled }
            counters.add { $0.retries += 1 }
            number += 1
        }
    }

    /// One attempt, unless the upstream rests; tells the circuit how it went.
    private func admitted<T>(_ priority: FetchPriority, _ attempt: () async throws(AttemptFailure) -> T) async throws(AttemptFailure) -> T {
        let arrived = ContinuousClock.now
        // Who would be turned away does not wait for it.
        if let (rest, reason) = state.withLock({ $0.circuit.rest(now: arrived) }) { throw turnedAway(rest, reason) }
        let result = await places.take(priority) { () async -> Result<T, AttemptFailure> in
            let started = ContinuousClock.now
            if case .resting(let rest, let reason) = state.withLock({ $0.circuit.admit(now: started) }) {
                return .failure(turnedAway(rest, reason))
            }
            do throws(AttemptFailure) {
                let value = try await attempt()
                state.withLock { state in
                    state.circuit.succeeded()
                    state.lastWell = .now
                }
                return .success(value)
            } catch {
                note(error)
                return .failure(error)
            }
        }
        guard let result else { throw AttemptFailure(.cancelled) }
        return try result.get()
    }

    private func note(_ failure: AttemptFailure) {
        let now = ContinuousClock.now
        state.withLock { state in
            switch failure.error {
            case .cancelled: state.circuit.probeAbandoned(now: now)
            case .missing:
                state.circuit.succeeded()
                state.lastWell = now
            case .failed(_, let line) where failure.isUpstreamAtFault:
                state.circuit.failed(now: now, reason: line, pause: failure.retryAfter)
                state.lastError = line
            case .failed(_, let line), .unusable(let line):
                state.circuit.succeeded()
                state.lastError = line
            }
        }
    }

    private func turnedAway(_ rest: Duration, _ reason: String) -> AttemptFailure {
        counters.add { $0.resting += 1 }
        let pause = rest > .zero ? "for another \(rest.spoken)" : "until an attempt under way has ended"
        return AttemptFailure(.failed(retryable: true, line: "\(label) is left alone \(pause) after failures: \(reason)"), isResting: true)
    }

    /// A chunk was put into the upstream.
    func noteStored(_ chunk: Chunk) {
        counters.add {
            $0.storedChunks += 1
            $0.storedBytes += chunk.byteCount
        }
    }

    /// The consumer of a chunk found that its bytes do not hash to its id.
    func noteBadContent() {
        counters.add { $0.badContent += 1 }
        let now = ContinuousClock.now
        let line = "\(label) sent wrong bytes"
        state.withLock { state in
            state.circuit.failed(now: now, reason: line)
            state.lastError = line
        }
    }
}

/// Why one attempt gave nothing, with what the gate wants to know.
struct AttemptFailure: Error, Sendable {
    let error: UpstreamError
    /// The upstream itself is not well; otherwise it answered, and this request was wrong or in vain.
    let isUpstreamAtFault: Bool
    /// When the upstream said that it may be asked again.
    let retryAfter: Duration?
    fileprivate let isResting: Bool

    init(_ error: UpstreamError, isUpstreamAtFault: Bool = false, retryAfter: Duration? = nil) {
        self.init(error, isUpstreamAtFault: isUpstreamAtFault, retryAfter: retryAfter, isResting: false)
    }

    fileprivate init(_ error: UpstreamError, isUpstreamAtFault: Bool = false, retryAfter: Duration? = nil, isResting: Bool) {
        (self.error, self.isUpstreamAtFault) = (error, isUpstreamAtFault)
        (self.retryAfter, self.isResting) = (retryAfter, isResting)
    }
}
