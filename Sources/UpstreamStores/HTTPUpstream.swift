public import ChunkModel
internal import Synchronization

/// A hub over http or https: `BASE/XX/HEX`, or `BASE/HEX` where that is not found.
public final class HTTPUpstream: UpstreamStore {
    public var label: String { gate.label }
    let url: UpstreamURL
    let curl: CurlMulti
    private let transfer: TransferLimits
    private let credentials: CredentialBox
    let gate: UpstreamGate
    /// The layout that worked last is asked first: only the first chunk of a flat store pays a second round trip.
    private let layout = Mutex(StoreLayout.split)

    /// - Parameter gate: of this upstream, whose label is the URL's.
    init(url: UpstreamURL, curl: CurlMulti, transfer: TransferLimits, credentials: CredentialBox, gate: UpstreamGate) {
        (self.url, self.curl, self.transfer, self.credentials, self.gate) = (url, curl, transfer, credentials, gate)
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
        if isForParts(priority) {
            switch try await inParts(id, layout, priority, pool) {
            case .chunk(let buffer): return buffer
            case .missing:
                gate.counters.add { $0.missing += 1 }
                return nil
            case .unusable: break
            }
        }
        let sink = ChunkBody(pool: pool)
        let place = "\(label)/\(layout.name(of: id))"
        var request = request(for: id, layout, priority, sink)
        if priority == .foreground, FetchUrgency.current?.isWholeBlock == true, curl.servers.isUnknown(url.endpoint) {
            // All of it, by an answer that tells whether parts are served.
            request.headers.append("Range: bytes=0-")
            request.bodyStatuses = [200, 206]
        }
        let response: CurlResponse
        do throws(TransferFailure) {
            response = try await curl.perform(request)
        } catch {
            throw AttemptFailure(error, at: place)
        }
        switch response.status {
        case 206:
            // Whole, unless the server means something of its own by it.
            let range = response.contentRange.flatMap(ChunkParts.ContentRange.init)
            if range?.first == 0, range?.total == sink.buffer.count { return sink.buffer }
            curl.servers.noteWrongParts(of: url.endpoint)
            return try await get(id, layout, priority, pool)
        case 200: return sink.buffer
        case 404:
            gate.counters.add { $0.missing += 1 }
            return nil
        default: throw AttemptFailure(status: response, at: place, counters: gate.counters)
        }
    }
}

extension HTTPUpstream {
    func request(for id: ChunkID, _ layout: StoreLayout, _ priority: FetchPriority, _ sink: any TransferSink) -> CurlRequest {
        CurlRequest(
            url: url.url(of: layout.name(of: id)), authorization: credentials.basic(for: url), limits: transfer,
            maxBodyBytes: ChunkLimits.maxStoredBytes, priority: priority,
            counters: gate.counters, server: url.endpoint, sink: sink)
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
