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

    public let counters: UpstreamCounters

    /// - Parameter rate: shared by all transfers of this thread.
    public init(rate: ReceiveRate = ReceiveRate(), counters: UpstreamCounters = UpstreamCounters()) {
        self.counters = counters
        worker = CurlWorker(rate: rate, counters: counters)
        worker.start()
    }

    /// What all receiving keeps to together.
    var rate: ReceiveRate { worker.rate }

    deinit { worker.stop() }

    /// Performs one GET; ends early when the task is cancelled.
    func perform(_ request: CurlRequest) async throws(TransferFailure) -> CurlResponse {
        let id = worker.nextID()
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                worker.submit(CurlTransfer(id: id, request: request, urgency: FetchUrgency.current, continuation: continuation))
            }
        } onCancel: {
            worker.cancel(id)
        }
        worker.forget(id)
        return try result.get()
    }
}
