internal import CCurl
internal import ChunkModel
internal import Glibc

/// One transfer while the curl thread works on it.
final class CurlTransfer: @unchecked Sendable {
    /// Redirects followed before giving up.
    static let maxRedirects = 5
    /// Bytes that libcurl reads at once, and so the step of the rate limit.
    static let receiveBytes = 128 * 1024
    /// Bytes of an error page that are read so that its connection can be used again; a longer one costs the connection.
    static let maxErrorBody = 64 * 1024
    /// Bytes of it that are kept where the request wants them.
    static let maxOtherBody = 4 * 1024
    /// Bytes of all response headers together, redirects included; with more the transfer is ended.
    static let maxHeaderBytes = 64 * 1024
    /// How long a server may take to say whether it wants a body of more than 1 MiB; then it is sent.
    static let expectTimeout: Duration = .milliseconds(300)
    /// Sent with every request: short, since a thin line pays for it.
    static let userAgent = "chunkmesh"

    let id: UInt64
    let request: CurlRequest
    private let urgency: FetchUrgency?
    private(set) var isPaused = false
    /// Of its paused time: since when, until `resume`, and all before that.
    private(set) var pausedAt = ContinuousClock.now
    private var pausedTime: Duration = .zero
    private var began = ContinuousClock.now
    /// When bytes came last, or could have come again after a pause.
    private var heardAt = ContinuousClock.now
    private var checksStall = false
    /// Takes what comes next although it is held back.
    private var mayTakeSip = false
    /// Whether it may go on beside readers (`AheadBudget`).
    var isAdmitted = false
    var isWholeBlock: Bool { urgency?.isWholeBlock ?? false }
    /// Whether its connection is without a bound: somebody waits for it, or soon will.
    var hasOpenWindow: Bool { priority == .foreground || isAdmitted && priority == .readAhead }
    /// The socket that it was sent on, once it was.
    private(set) var socket: Int32?
    private var continuation: CheckedContinuation<Result<CurlResponse, TransferFailure>, Never>?
    private var handle: CurlHandle?
    private var worker: CurlWorker?
    private var headerList: UnsafeMutablePointer<curl_slist>?
    private var refusal: TransferFailure?
    private var errorBody = 0
    private var errorBodyCut = false
    private var otherBody: [UInt8] = []
    private var headerBytes = 0

    init(
        id: UInt64, request: CurlRequest, urgency: FetchUrgency? = nil,
        continuation: CheckedContinuation<Result<CurlResponse, TransferFailure>, Never>
    ) {
        (self.id, self.request, self.urgency, self.continuation) = (id, request, urgency, continuation)
    }

    /// Of the request, or of those who have come to wait for it since.
    var priority: FetchPriority { max(request.priority, urgency?.priority ?? request.priority) }

    /// Bytes of the body that are still to come; `nil` before the server has said how many there are.
    var remaining: Int? {
        let declared = offset(CURLINFO_CONTENT_LENGTH_DOWNLOAD_T)
        return declared < 0 ? nil : max(0, declared - offset(CURLINFO_SIZE_DOWNLOAD_T))
    }

    /// The request goes out on the connection with this port of ours.
    func isSent(fromPort port: UInt16) {
        socket = worker?.sockets.socket(ofPort: port)
        if let socket { worker?.sockets.begin(socket, isUrgent: hasOpenWindow) }
    }

    func finish(_ result: Result<CurlResponse, TransferFailure>) {
        let waiting = continuation
        continuation = nil
        waiting?.resume(returning: result)
    }

    // MARK: On the curl thread

    private var counters: UpstreamCounters? { request.counters ?? worker?.counters }

    func attach(_ handle: CurlHandle, worker: CurlWorker) {
        self.handle = handle
        self.worker = worker
        let easy = handle.easy
        let me = Unmanaged.passUnretained(self).toOpaque()
        let limits = request.limits
        began = .now
        heardAt = began
        checksStall = worker.rate.isLimited
        _ = chunkmesh_curl_set_string(easy, CURLOPT_URL, request.url)
        _ = chunkmesh_curl_set_string(easy, CURLOPT_USERAGENT, Self.userAgent)
        _ = chunkmesh_curl_set_string(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        _ = chunkmesh_curl_set_string(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https")
        _ = chunkmesh_curl_set_pointer(easy, CURLOPT_PRIVATE, me)
        _ = chunkmesh_curl_set_pointer(easy, CURLOPT_WRITEDATA, me)
        _ = chunkmesh_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, handle.errorText)
        _ = chunkmesh_curl_set_callback(easy, CURLOPT_WRITEFUNCTION) { bytes, size, count, user in
            guard let user, let bytes else { return 0 }
            let transfer = Unmanaged<CurlTransfer>.fromOpaque(user).takeUnretainedValue()
            return transfer.receive(UnsafeRawBufferPointer(start: bytes, count: size * count))
        }
        _ = chunkmesh_curl_set_pointer(easy, CURLOPT_HEADERDATA, me)
        _ = chunkmesh_curl_set_callback(easy, CURLOPT_HEADERFUNCTION) { _, size, count, user in
            guard let user else { return 0 }
            return Unmanaged<CurlTransfer>.fromOpaque(user).takeUnretainedValue().receiveHeader(size * count)
        }
        worker.sockets.prepare(easy, me)
        let longs: [(CURLoption, Int)] = [
            (CURLOPT_NOSIGNAL, 1),
            (CURLOPT_FOLLOWLOCATION, followsRedirects ? 1 : 0),
            (CURLOPT_MAXREDIRS, Self.maxRedirects),
            (CURLOPT_CONNECTTIMEOUT_MS, max(1, limits.connect.milliseconds)),
            (CURLOPT_LOW_SPEED_LIMIT, max(1, limits.lowSpeedBytes)),
            // Of a rate of our own libcurl knows nothing: then this file looks itself.
            (CURLOPT_LOW_SPEED_TIME, checksStall ? 0 : max(1, limits.lowSpeedTime.milliseconds / 1_000)),
            (CURLOPT_BUFFERSIZE, Self.receiveBytes),
            (CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_2TLS)),
            // Rather wait for the first handshake and share its connection than open one for each stream.
            (CURLOPT_PIPEWAIT, request.url.hasPrefix("https:") ? 1 : 0),
            (CURLOPT_TCP_KEEPALIVE, 1),
            (CURLOPT_EXPECT_100_TIMEOUT_MS, Self.expectTimeout.milliseconds),
        ]
        for (option, value) in longs { _ = chunkmesh_curl_set_long(easy, option, value) }
        _ = chunkmesh_curl_set_offset(easy, CURLOPT_MAXFILESIZE_LARGE, curl_off_t(request.maxBodyBytes))
        // The curl tool reads these variables; the library does not.
        if let file = Self.environment("CURL_CA_BUNDLE") ?? Self.environment("SSL_CERT_FILE") {
            _ = chunkmesh_curl_set_string(easy, CURLOPT_CAINFO, file)
        }
        if let directory = Self.environment("SSL_CERT_DIR") { _ = chunkmesh_curl_set_string(easy, CURLOPT_CAPATH, directory) }
        setMethod(easy)
        // "Accept:" without a value takes libcurl's own line away; but libcurl 7.88 signs it without sending it.
        var isSigned = false
        if case .aws? = request.authorization { isSigned = true }
        for line in (isSigned ? [] : ["Accept:"]) + request.headers { headerList = curl_slist_append(headerList, line) ?? headerList }
        _ = chunkmesh_curl_set_list(easy, CURLOPT_HTTPHEADER, headerList)
    }

    private var followsRedirects: Bool {
        if case .aws? = request.authorization { return false }
        return request.method.followsRedirects
    }

    private func setMethod(_ easy: UnsafeMutableRawPointer) {
        switch request.method {
        case .get: break
        case .head: _ = chunkmesh_curl_set_long(easy, CURLOPT_NOBODY, 1)
        case .put(let body): setBody(easy, body, "PUT")
        case .post(let body): setBody(easy, body, "POST")
        }
        switch request.authorization {
        case .basic(let credential)?: setUser(easy, credential)
        case .bearer(let token)?:
            _ = chunkmesh_curl_set_string(easy, CURLOPT_XOAUTH2_BEARER, token)
            _ = chunkmesh_curl_set_long(easy, CURLOPT_HTTPAUTH, 1 << 6)  // CURLAUTH_BEARER
        case .aws(let credential, let region)?:
            setUser(easy, credential)
            _ = chunkmesh_curl_set_string(easy, CURLOPT_AWS_SIGV4, "aws:amz:\(region):s3")
        case nil: break
        }
    }

    private func setUser(_ easy: UnsafeMutableRawPointer, _ credential: Credential) {
        _ = chunkmesh_curl_set_string(easy, CURLOPT_USERNAME, credential.user)
        _ = chunkmesh_curl_set_string(easy, CURLOPT_PASSWORD, credential.password)
    }

    /// The body is not copied: the request holds it. Unlike an upload by callback it can be sent again on a new connection.
    private func setBody(_ easy: UnsafeMutableRawPointer, _ body: ChunkBuffer, _ method: String) {
        _ = chunkmesh_curl_set_long(easy, CURLOPT_POST, 1)
        _ = chunkmesh_curl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
        _ = chunkmesh_curl_set_pointer(easy, CURLOPT_POSTFIELDS, body.base)
        _ = chunkmesh_curl_set_string(easy, CURLOPT_CUSTOMREQUEST, method)
    }

    private func receiveHeader(_ count: Int) -> Int {
        headerBytes += count
        guard headerBytes > Self.maxHeaderBytes else { return count }
        refusal = TransferFailure(kind: .tooLong, retryable: false, line: "sends more than \(Self.maxHeaderBytes) bytes of headers")
        return 0
    }

    /// Takes the handle back and adds up what the transfer cost.
    func detach() -> CurlHandle? {
        guard let handle else { return nil }
        let connections = number(CURLINFO_NUM_CONNECTS)
        let headers = number(CURLINFO_HEADER_SIZE)
        counters?.add {
            $0.connections += connections
            $0.headerBytes += headers
        }
        settle(headers: headers, connections: connections)
        self.handle = nil
        worker = nil
        isPaused = false
        _ = chunkmesh_curl_set_list(handle.easy, CURLOPT_HTTPHEADER, nil)
        curl_slist_free_all(headerList)
        headerList = nil
        return handle
    }

    /// Charges what the line carried beside the body.
    private func settle(headers: Int, connections: Int) {
        guard let worker else { return }
        if let socket, let cost = worker.sockets.settle(socket) {
            worker.rate.add(cost)
        } else {
            let opening = LineCost.connectionBytes + (request.url.hasPrefix("https:") ? LineCost.handshakeBytes : 0)
            worker.rate.add(LineCost.stream(headers) + connections * opening)
        }
    }

    /// - Parameter sip: take what comes next, whoever comes first.
    func resume(sip: Bool = false) {
        guard let handle, isPaused else { return }
        let now = ContinuousClock.now
        isPaused = false
        pausedTime += now - pausedAt
        heardAt = now
        mayTakeSip = sip
        curl_easy_pause(handle.easy, 0)
    }

    private func pause() -> Int {
        isPaused = true
        pausedAt = .now
        return Int(CURL_WRITEFUNC_PAUSE)
    }

    /// Its answer comes, or may come, and is read.
    var mayBeHeld: Bool { socket != nil && !isPaused && !mayTakeSip }

    /// Pauses it before its next bytes are read.
    func holdBack() {
        guard let handle, mayBeHeld else { return }
        isPaused = true
        pausedAt = .now
        curl_easy_pause(handle.easy, 1)  // CURLPAUSE_RECV
    }

    /// Why it takes too long, not counting the time in which it was held back here; `nil` when it does not.
    func overdue(now: ContinuousClock.Instant) -> TransferFailure? {
        guard !isPaused else { return nil }
        let limits = request.limits
        if now - began - pausedTime > limits.total {
            return TransferFailure(kind: .timeout, retryable: true, line: "timed out: not done within \(limits.total.spoken)")
        }
        guard checksStall, now - heardAt > limits.lowSpeedTime else { return nil }
        return TransferFailure(kind: .timeout, retryable: true, line: "timed out: nothing came for \(limits.lowSpeedTime.spoken)")
    }

    private func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard let worker else { return 0 }
        // Where libcurl did not keep to a pause, it is one all the same.
        if !mayTakeSip, isPaused || worker.rate.wait(priority, isAdmitted: isAdmitted) != .no { return pause() }
        mayTakeSip = false
        heardAt = .now
        let cost = LineCost.stream(bytes.count)
        worker.rate.add(cost)
        if let socket { worker.sockets.noteCharged(socket, cost) }
        counters?.add { $0.bodyBytes += bytes.count }
        guard request.bodyStatuses.contains(number(CURLINFO_RESPONSE_CODE)) else {
            errorBody += bytes.count
            if request.keepsOtherBody, otherBody.count < Self.maxOtherBody {
                otherBody += bytes.prefix(Self.maxOtherBody - otherBody.count)
            }
            errorBodyCut = errorBody > Self.maxErrorBody
            return errorBodyCut ? 0 : bytes.count
        }
        do throws(TransferFailure) {
            let declared = offset(CURLINFO_CONTENT_LENGTH_DOWNLOAD_T)
            try request.sink.take(bytes, declared: declared >= 0 ? declared : nil)
            return bytes.count
        } catch {
            refusal = error
            return 0
        }
    }

    /// What libcurl's end of the transfer means.
    func outcome(_ code: CURLcode) -> Result<CurlResponse, TransferFailure> {
        if let refusal { return .failure(refusal) }
        guard let handle else { return .failure(.stopped) }
        guard code == CURLE_OK || errorBodyCut else { return .failure(failure(code, handle)) }
        let wait = offset(CURLINFO_RETRY_AFTER)
        var response = CurlResponse(
            status: number(CURLINFO_RESPONSE_CODE), retryAfter: wait > 0 ? .seconds(wait) : nil,
            etag: header("ETag", handle), lastModified: header("Last-Modified", handle), otherBody: otherBody,
            httpVersion: number(CURLINFO_HTTP_VERSION))
        if request.server != nil {
            response.contentRange = header("Content-Range", handle)
            response.offersParts = header("Accept-Ranges", handle)?.lowercased() == "bytes"
            response.roundTrip = socket.flatMap { worker?.sockets.roundTrip($0) }
        }
        return .success(response)
    }

    private func failure(_ code: CURLcode, _ handle: CurlHandle) -> TransferFailure {
        let detail = handle.errorText[0] != 0 ? String(cString: handle.errorText) : String(cString: curl_easy_strerror(code))
        let (kind, retryable): (UpstreamFailureKind, Bool) =
            switch code {
            case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY, CURLE_COULDNT_CONNECT: (.connect, true)
            case CURLE_OPERATION_TIMEDOUT: (.timeout, true)
            case CURLE_SSL_CONNECT_ERROR: (.tls, true)
            case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_CERTPROBLEM: (.tls, false)
            case CURLE_FILESIZE_EXCEEDED: (.tooLong, false)
            case CURLE_TOO_MANY_REDIRECTS, CURLE_UNSUPPORTED_PROTOCOL, CURLE_URL_MALFORMAT: (.redirect, false)
            case CURLE_PARTIAL_FILE, CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR, CURLE_HTTP2, CURLE_HTTP2_STREAM,
                CURLE_WEIRD_SERVER_REPLY:
                (.broken, true)
            default: (.other, true)
            }
        let line = kind == .tooLong ? "declares more than the \(request.maxBodyBytes) bytes allowed" : shown(detail)
        return TransferFailure(kind: kind, retryable: retryable, line: line)
    }

    /// libcurl's words may quote what the server sent; they fit one line and hold no secret.
    private func shown(_ detail: String) -> String {
        var text = UpstreamURL.printable(detail)
        // Shorter ones stand in any text.
        for secret in request.authorization?.secrets ?? [] where secret.utf8.count >= 4 && text.contains(secret) { text = "failed" }
        return text
    }

    private func number(_ info: CURLINFO) -> Int {
        var value = 0
        if let handle { _ = chunkmesh_curl_get_long(handle.easy, info, &value) }
        return value
    }

    private func offset(_ info: CURLINFO) -> Int {
        var value: curl_off_t = -1
        if let handle { _ = chunkmesh_curl_get_offset(handle.easy, info, &value) }
        return Int(value)
    }

    /// A header of the last response, where it has at most 1,024 bytes.
    private func header(_ name: String, _ handle: CurlHandle) -> String? {
        var found: UnsafeMutablePointer<curl_header>?
        guard curl_easy_header(handle.easy, name, 0, 1, -1, &found) == CURLHE_OK, let value = found?.pointee.value else { return nil }
        return strnlen(value, 1_025) <= 1_024 ? String(cString: value) : nil
    }

    private static func environment(_ name: String) -> String? {
        guard let value = getenv(name), value[0] != 0 else { return nil }
        return String(cString: value)
    }
}
