internal import ChunkModel

/// One GET for `CurlMulti`.
struct CurlRequest: Sendable {
    var url: String
    /// "Name: value" lines added to the request.
    var headers: [String] = []
    var limits: TransferLimits
    /// A longer declared body is refused before its first byte; the sink cuts an undeclared one.
    var maxBodyBytes: Int
    var priority: FetchPriority
    /// Of the upstream; those of the `CurlMulti` where there are none.
    var counters: UpstreamCounters?
    /// Takes the body of a 200; other bodies are thrown away.
    var sink: any TransferSink
}

/// Takes the bytes of a 200 as they arrive. Called by the curl thread alone until the transfer has ended, by whoever awaited it
/// afterwards; never by both.
protocol TransferSink: AnyObject, Sendable {
    /// - Parameter declared: length of the whole body where the server said it.
    /// - Throws: to end the transfer.
    func take(_ bytes: UnsafeRawBufferPointer, declared: Int?) throws(TransferFailure)
}

/// What the server answered, with the body in the request's sink.
struct CurlResponse: Sendable {
    var status: Int
    var retryAfter: Duration?
    var etag: String?
    var lastModified: String?
    /// libcurl's number for the protocol version: 2 for HTTP/1.1, 3 for HTTP/2.
    var httpVersion: Int
}

/// Why there is no answer.
struct TransferFailure: Error, Sendable {
    var kind: UpstreamFailureKind
    var retryable: Bool
    /// The cause, without the URL.
    var line: String
    var isCancellation = false

    static let cancelled = TransferFailure(kind: .other, retryable: false, line: "cancelled", isCancellation: true)
    static let stopped = TransferFailure(kind: .other, retryable: false, line: "the node is stopping")
}
