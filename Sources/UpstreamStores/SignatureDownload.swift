internal import ChunkModel

/// Fetches the signature beside an flist on a hub: a small file of the same name with `.minisig` behind it.
public struct SignatureDownload: Sendable {
    public static let suffix = ".minisig"
    /// The page with which a server says that there is none may be this long; the signature itself is cut at its own limit.
    static let maxPageBytes = 1 << 20

    private let curl: CurlMulti
    private let credentials: CredentialBox
    private let limits: TransferLimits
    private let retry: RetryLimits
    private let random: UpstreamRandom

    /// - Parameter opener: whose credentials are used where the URL has none.
    public init(
        curl: CurlMulti, opener: StoreOpener? = nil, limits: TransferLimits = .chunk, retry: RetryLimits = RetryLimits(),
        random: UpstreamRandom = UpstreamRandom()
    ) {
        credentials = opener?.credentials ?? CredentialBox(UpstreamCredentials(), named: [])
        (self.curl, self.limits, self.retry, self.random) = (curl, limits, retry, random)
    }

    /// - Parameters:
    ///   - flist: the flist's own URL, http or https; the signature's has the suffix behind the path, before a query.
    ///   - maxBytes: a longer body fails.
    /// - Returns: `nil` when there is none (404 or 410).
    public func fetch(of flist: String, maxBytes: Int) async throws(UpstreamError) -> [UInt8]? {
        let url = try UpstreamURL(flist)
        var attempt = 1
        while true {
            let failure: UpstreamError
            var retryAfter: Duration?
            do throws(UpstreamError) {
                return try await once(url, maxBytes, &retryAfter)
            } catch {
                failure = error
            }
            guard failure.isRetryable, let wait = retry.wait(after: attempt, retryAfter: retryAfter, fraction: random.fraction())
            else { throw failure }
            do { try await Task.sleep(for: wait) } catch { throw .cancelled }
            curl.counters.add { $0.retries += 1 }
            attempt += 1
        }
    }

    private func once(_ url: UpstreamURL, _ maxBytes: Int, _ retryAfter: inout Duration?) async throws(UpstreamError) -> [UInt8]? {
        let label = url.label + Self.suffix
        let sink = BytesSink(maxBytes: maxBytes)
        let response: CurlResponse
        do throws(TransferFailure) {
            response = try await curl.perform(
                CurlRequest(
                    url: url.url(withSuffix: Self.suffix), authorization: credentials.basic(for: url), limits: limits,
                    maxBodyBytes: Self.maxPageBytes, priority: .foreground, sink: sink))
        } catch {
            if error.isCancellation { throw .cancelled }
            throw .failed(retryable: error.retryable, line: "\(label): \(error.line)")
        }
        switch response.status {
        case 200: return sink.bytes
        case 404, 410: return nil
        case let status:
            curl.counters.add(failure: .status)
            retryAfter = response.retryAfter
            throw .failed(retryable: status == 429 || status >= 500, line: "\(label): the server answered with status \(status)")
        }
    }
}

/// Keeps a small body.
private final class BytesSink: TransferSink, @unchecked Sendable {
    private let maxBytes: Int
    private(set) var bytes: [UInt8] = []

    init(maxBytes: Int) { self.maxBytes = maxBytes }

    func take(_ piece: UnsafeRawBufferPointer, declared: Int?) throws(TransferFailure) {
        guard piece.count <= maxBytes - bytes.count else {
            throw TransferFailure(kind: .tooLong, retryable: false, line: "sends more than the \(maxBytes) bytes that a signature may have")
        }
        bytes += piece
    }
}
