internal import CCurl
internal import Glibc
internal import Synchronization

/// Runs HTTP transfers on one thread that owns a libcurl multi handle: connections are kept alive and shared, HTTP/2 streams
/// are multiplexed over TLS where the server offers it, bodies go straight into their sinks.
///
/// Proxies come from the usual environment variables (`http_proxy`, `https_proxy`, `no_proxy`), CA certificates from
/// `CURL_CA_BUNDLE`, `SSL_CERT_FILE` and `SSL_CERT_DIR` or the system. Redirects are followed to http and https only.
///
/// Jobs are not queued here beyond what the callers start: they bound themselves. The thread ends when the last reference
/// goes; transfers under way then fail.
public final class CurlMulti: Sendable {
    private let worker: CurlWorker
    private let underWay = Atomic(0)

    public let counters: UpstreamCounters
    public let servers: ServerFacts

    /// - Parameters:
    ///   - rate: shared by all transfers of this thread.
    ///   - servers: what is known of servers; may be shared.
    public init(
        rate: ReceiveRate = ReceiveRate(), counters: UpstreamCounters = UpstreamCounters(), servers: ServerFacts = ServerFacts()
    ) {
        (self.counters, self.servers) = (counters, servers)
        worker = CurlWorker(rate: rate, counters: counters)
        worker.start()
    }

    /// What all receiving keeps to together.
    var rate: ReceiveRate { worker.rate }

    /// Whether no transfer is under way or waits for its turn.
    var isIdle: Bool { underWay.load(ordering: .relaxed) == 0 }

    deinit { worker.stop() }

    /// Performs one request; ends early when the task is cancelled.
    func perform(_ request: CurlRequest) async throws(TransferFailure) -> CurlResponse { try await result(of: request).get() }

    /// The same.
    func result(of request: CurlRequest) async -> Result<CurlResponse, TransferFailure> {
        underWay.add(1, ordering: .relaxed)
        defer { underWay.subtract(1, ordering: .relaxed) }
        let id = worker.nextID()
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                worker.submit(CurlTransfer(id: id, request: request, urgency: FetchUrgency.current, continuation: continuation))
            }
        } onCancel: {
            worker.cancel(id)
        }
        worker.forget(id)
        if let server = request.server, case .success(let response) = result { servers.note(response, of: server) }
        return result
    }
}
