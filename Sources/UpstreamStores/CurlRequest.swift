internal import ChunkModel

/// One request for `CurlMulti`.
struct CurlRequest: Sendable {
    enum Method: Sendable {
        case get
        /// The status and the headers alone.
        case head
        /// The buffer is read until the transfer has ended.
        case put(ChunkBuffer)
        case post(ChunkBuffer)

        /// Bodies go to no other place than the one that was named.
        var followsRedirects: Bool {
            switch self {
            case .get, .head: true
            case .put, .post: false
            }
        }
    }

    /// Who asks. Never sent on to another host or port that a redirect names.
    enum Authorization: Sendable {
        case basic(Credential)
        case bearer(String)
        /// Signature Version 4 of AWS, for the service s3; the key id and the secret are the user and the password. With it no
        /// redirect is followed, since the signature would be wrong there.
        case aws(Credential, region: String)

        /// What no line for people may show.
        var secrets: [String] {
            switch self {
            case .basic(let credential): [credential.password]
            case .bearer(let token): [token]
            case .aws(let credential, _): [credential.password]
            }
        }
    }

    var method = Method.get
    var url: String
    var authorization: Authorization?
    /// Keep the beginning of the body of any status but 200: `CurlResponse.otherBody`.
    var keepsOtherBody = false
    /// "Name: value" lines added to the request.
    var headers: [String] = []
    var limits: TransferLimits
    /// A longer declared body is refused before its first byte; the sink cuts an undeclared one.
    var maxBodyBytes: Int
    var priority: FetchPriority
    /// Of the upstream; those of the `CurlMulti` where there are none.
    var counters: UpstreamCounters?
    /// Of which the answer tells something (`ServerFacts`).
    var server: Endpoint?
    /// Whose body goes to the sink; others are thrown away.
    var bodyStatuses = [200]
    var sink: any TransferSink
}

/// Takes the bytes of an answer as they arrive. Called by the curl thread alone until the transfer has ended, by whoever awaited it
/// afterwards; never by both.
protocol TransferSink: AnyObject, Sendable {
    /// - Parameter declared: length of the whole body where the server said it.
    /// - Throws: to end the transfer.
    func take(_ bytes: UnsafeRawBufferPointer, declared: Int?) throws(TransferFailure)
}

/// For requests whose answer is the status.
final class NoBody: TransferSink {
    func take(_ bytes: UnsafeRawBufferPointer, declared: Int?) throws(TransferFailure) {}
}

/// What the server answered, with the body in the request's sink.
struct CurlResponse: Sendable {
    var status: Int
    var retryAfter: Duration?
    var etag: String?
    var lastModified: String?
    var contentRange: String?
    /// The server says that it would send parts of the file too.
    var offersParts = false
    /// The shortest of the connection, in seconds; `nil` where the kernel tells none.
    var roundTrip: Double?
    /// At most `CurlTransfer.maxOtherBody` bytes, where the request wanted them.
    var otherBody: [UInt8]
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
