public import ChunkModel
internal import Synchronization

/// A hub over http or https: `BASE/XX/HEX`, or `BASE/HEX` where that is not found.
public final class HTTPUpstream: UpstreamStore {
    private struct State {
        /// The layout that worked last is asked first: only the first chunk of a flat store pays a second round trip.
        var layout = StoreLayout.split
        var circuit: Circuit
    }

    public let label: String
    private let url: UpstreamURL
    private let curl: CurlMulti
    private let transfer: TransferLimits
    private let retry: RetryLimits
    private let random: UpstreamRandom
    private let state: Mutex<State>

    /// - Parameter url: may hold a user name and password; a query is kept behind the chunk's path.
    /// - Throws: `.unusable` when `url` is no http or https URL.
    public convenience init(
        url: String, curl: CurlMulti, transfer: TransferLimits = .chunk, retry: RetryLimits = RetryLimits(),
        random: UpstreamRandom = UpstreamRandom()
    ) throws(UpstreamError) {
        try self.init(url: url, curl: curl, transfer: transfer, retry: retry, circuit: Circuit.Limits(), random: random)
    }

    init(
        url: String, curl: CurlMulti, transfer: TransferLimits, retry: RetryLimits, circuit: Circuit.Limits, random: UpstreamRandom
    ) throws(UpstreamError) {
        self.url = try UpstreamURL(url)
        label = self.url.label
        (self.curl, self.transfer, self.retry, self.random) = (curl, transfer, retry, random)
        state = Mutex(State(circuit: Circuit(circuit)))
    }

    public func noteBadContent() {
        curl.counters.add { $0.badContent += 1 }
        let now = ContinuousClock.now
        state.withLock { $0.circuit.failed(now: now, reason: "\(label) sent wrong bytes") }
    }

    public func fetch(_ id: ChunkID, priority: FetchPriority, pool: ChunkBufferPool) async throws(UpstreamError) -> ChunkBuffer {
        var attempt = 1
        while true {
            let failure: HTTPFailure
            do throws(HTTPFailure) {
                return try await admitted(id, priority, pool)
            } catch {
                failure = error
            }
            guard failure.error.isRetryable, !failure.isResting,
                let wait = retry.wait(after: attempt, retryAfter: failure.retryAfter, fraction: random.fraction())
            else { throw failure.error }
            do { try await Task.sleep(for: wait) } catch { throw .cancelled }
            curl.counters.add { $0.retries += 1 }
            attempt += 1
        }
    }

    /// One attempt, unless the upstream rests; tells the circuit how it went.
    private func admitted(_ id: ChunkID, _ priority: FetchPriority, _ pool: ChunkBufferPool) async throws(HTTPFailure) -> ChunkBuffer {
        let started = ContinuousClock.now
        if case .resting(let rest, let reason) = state.withLock({ $0.circuit.admit(now: started) }) {
            curl.counters.add { $0.resting += 1 }
            let pause = rest > .zero ? "for another \(rest.spoken)" : "until an attempt under way has ended"
            throw HTTPFailure(.failed(retryable: true, line: "\(label) is left alone \(pause) after failures: \(reason)"), isResting: true)
        }
        do throws(HTTPFailure) {
            let buffer = try await bothLayouts(id, priority, pool)
            state.withLock { $0.circuit.succeeded() }
            curl.counters.add { $0.chunks += 1 }
            return buffer
        } catch {
            let now = ContinuousClock.now
            state.withLock { state in
                switch error.error {
                case .cancelled: state.circuit.probeAbandoned(now: now)
                case .failed(_, let line) where error.isUpstreamAtFault:
                    state.circuit.failed(now: now, reason: line, pause: error.retryAfter)
                case .missing, .failed, .unusable: state.circuit.succeeded()
                }
            }
            throw error
        }
    }

    private func bothLayouts(_ id: ChunkID, _ priority: FetchPriority, _ pool: ChunkBufferPool) async throws(HTTPFailure) -> ChunkBuffer {
        let first = state.withLock { $0.layout }
        if let buffer = try await get(id, first, priority, pool) { return buffer }
        if let buffer = try await get(id, first.other, priority, pool) {
            state.withLock { $0.layout = first.other }
            return buffer
        }
        throw HTTPFailure(.missing)
    }

    /// - Returns: `nil` upon 404.
    private func get(
        _ id: ChunkID, _ layout: StoreLayout, _ priority: FetchPriority, _ pool: ChunkBufferPool
    ) async throws(HTTPFailure) -> ChunkBuffer? {
        let sink = ChunkBody(pool: pool)
        let place = "\(label)/\(layout.name(of: id))"
        let response: CurlResponse
        do throws(TransferFailure) {
            response = try await curl.perform(
                CurlRequest(
                    url: url.url(of: layout.name(of: id)), limits: transfer, maxBodyBytes: ChunkLimits.maxStoredBytes, priority: priority,
                    sink: sink))
        } catch {
            if error.isCancellation { throw HTTPFailure(.cancelled) }
            throw HTTPFailure(
                .failed(retryable: error.retryable, line: "\(place): \(error.line)"), isUpstreamAtFault: error.kind != .tooLong)
        }
        switch response.status {
        case 200: return sink.buffer
        case 404:
            curl.counters.add { $0.missing += 1 }
            return nil
        case let status:
            curl.counters.add(failure: .status)
            // 4xx says that this request is wrong; the hub itself is well, except where it says "later".
            let later = status == 408 || status == 425 || status == 429 || status >= 500
            throw HTTPFailure(
                .failed(retryable: later, line: "\(place): the server answered with status \(status)"), isUpstreamAtFault: later,
                retryAfter: response.retryAfter)
        }
    }
}

/// An `UpstreamError` with what the retry and the circuit want to know.
private struct HTTPFailure: Error {
    let error: UpstreamError
    var isUpstreamAtFault = false
    var isResting = false
    var retryAfter: Duration?

    init(_ error: UpstreamError, isUpstreamAtFault: Bool = false, isResting: Bool = false, retryAfter: Duration? = nil) {
        (self.error, self.isUpstreamAtFault) = (error, isUpstreamAtFault)
        (self.isResting, self.retryAfter) = (isResting, retryAfter)
    }
}
