public import ChunkModel
internal import Synchronization

/// A hub over http or https: `BASE/XX/HEX`, or `BASE/HEX` where that is not found.
public final class HTTPUpstream: UpstreamStore {
    public var label: String { gate.label }
    private let url: UpstreamURL
    private let curl: CurlMulti
    private let transfer: TransferLimits
    private let gate: UpstreamGate
    /// The layout that worked last is asked first: only the first chunk of a flat store pays a second round trip.
    private let layout = Mutex(StoreLayout.split)

    /// - Parameter gate: of this upstream, whose label is the URL's.
    init(url: UpstreamURL, curl: CurlMulti, transfer: TransferLimits, gate: UpstreamGate) {
        (self.url, self.curl, self.transfer, self.gate) = (url, curl, transfer, gate)
    }

    public func noteBadContent() { gate.noteBadContent() }

    public func fetch(_ id: ChunkID, priority: FetchPriority, pool: ChunkBufferPool) async throws(UpstreamError) -> ChunkBuffer {
        let buffer = try await gate.run(priority) { () async throws(AttemptFailure) in try await bothLayouts(id, priority, pool) }
        gate.counters.add { $0.chunks += 1 }
        return buffer
    }

    private func bothLayouts(_ id: ChunkID, _ priority: FetchPriority, _ pool: ChunkBufferPool) async throws(AttemptFailure) -> ChunkBuffer
    {
        let first = layout.withLock { $0 }
        if let buffer = try await get(id, first, priority, pool) { return buffer }
        if let buffer = try await get(id, first.other, priority, pool) {
            layout.withLock { $0 = first.other }
            return buffer
        }
        throw AttemptFailure(.missing)
    }

    /// - Returns: `nil` upon 404.
    private func get(
        _ id: ChunkID, _ layout: StoreLayout, _ priority: FetchPriority, _ pool: ChunkBufferPool
    ) async throws(AttemptFailure) -> ChunkBuffer? {
        let sink = ChunkBody(pool: pool)
        let place = "\(label)/\(layout.name(of: id))"
        let request = CurlRequest(
            url: url.url(of: layout.name(of: id)), limits: transfer, maxBodyBytes: ChunkLimits.maxStoredBytes, priority: priority,
            counters: gate.counters, sink: sink)
        let response: CurlResponse
        do throws(TransferFailure) {
            response = try await curl.perform(request)
        } catch {
            throw AttemptFailure(error, at: place)
        }
        switch response.status {
        case 200: return sink.buffer
        case 404:
            gate.counters.add { $0.missing += 1 }
            return nil
        default: throw AttemptFailure(status: response, at: place, counters: gate.counters)
        }
    }
}

extension AttemptFailure {
    /// What the end of a transfer without an answer means.
    ///
    /// - Parameter place: what was asked for, without credentials.
    init(_ failure: TransferFailure, at place: String) {
        if failure.isCancellation {
            self.init(.cancelled)
        } else {
            self.init(
                .failed(retryable: failure.retryable, line: "\(place): \(failure.line)"), isUpstreamAtFault: failure.kind != .tooLong)
        }
    }

    /// What a status other than the expected ones means; counts it.
    ///
    /// - Parameter detail: what the server said beyond its number.
    init(status response: CurlResponse, at place: String, detail: String = "", counters: UpstreamCounters) {
        counters.add(failure: .status)
        let status = response.status
        // 4xx says that this request is wrong; the hub itself is well, except where it says "later".
        let later = status == 408 || status == 425 || status == 429 || status >= 500
        let line = "\(place): the server answered with status \(status)\(detail)"
        self.init(.failed(retryable: later, line: line), isUpstreamAtFault: later, retryAfter: response.retryAfter)
    }
}
