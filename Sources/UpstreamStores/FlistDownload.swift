internal import BlockingThreads
public import ChunkModel
internal import Glibc

/// Fetches an flist from a URL to a file, unless it is still the one known.
///
/// A hub may keep the file's MD5 beside it, at the URL with `.md5` behind it. Where it does, a file that differs is fetched once more,
/// since the hub may be replacing it, and then refused. It guards against damage, not against the hub.
///
/// The file is written and hashed on the thread of `curl`: give it a `CurlMulti` of its own, so that a slow disk does not hold up
/// the chunks.
public struct FlistDownload: Sendable {
    /// A longer flist is refused.
    public static let maxBytes = 4 << 30

    /// What the server said about the version fetched before.
    public struct Validators: Sendable, Equatable {
        public var etag: String?
        public var lastModified: String?
        public init(etag: String? = nil, lastModified: String? = nil) { (self.etag, self.lastModified) = (etag, lastModified) }
    }

    public enum Result: Sendable, Equatable {
        case notModified
        /// - Parameter path: the complete file, synced to the device.
        case downloaded(path: String, digest: FlistDigest, bytes: Int, validators: Validators)
    }

    /// Time and bytes that the MD5 beside the flist may take; without it by then the flist is taken unchecked.
    static let sumLimits = TransferLimits(lowSpeedTime: .seconds(5), total: .seconds(10))
    static let maxSumBytes = 4 * 1024
    /// Downloads that may end in a file of another MD5; then it is refused.
    static let sumAttempts = 2

    private let curl: CurlMulti
    private let credentials: CredentialBox
    private let limits: TransferLimits
    private let retry: RetryLimits
    private let random: UpstreamRandom
    private let maxBytes: Int

    /// - Parameter opener: whose credentials are used where the URL has none.
    public init(
        curl: CurlMulti, opener: StoreOpener? = nil, limits: TransferLimits = .flist, retry: RetryLimits = RetryLimits(),
        random: UpstreamRandom = UpstreamRandom(),
        maxBytes: Int = Self.maxBytes
    ) {
        credentials = opener?.credentials ?? CredentialBox(UpstreamCredentials(), named: [])
        (self.curl, self.limits, self.retry, self.random, self.maxBytes) = (curl, limits, retry, random, maxBytes)
    }

    /// - Parameters:
    ///   - url: http or https.
    ///   - path: replaced when the whole flist has arrived, through a temporary file beside it; untouched otherwise.
    ///   - known: of the version that the caller has; with them the answer may be `.notModified`.
    /// - Throws: `.missing` upon 404.
    public func fetch(_ url: String, to path: String, known: Validators? = nil) async throws(UpstreamError) -> Result {
        let url = try UpstreamURL(url)
        var attempt = 1
        var mismatches = 0
        while true {
            let failure: UpstreamError
            var retryAfter: Duration?
            do throws(UpstreamError) {
                if let result = try await once(url, path, known, &retryAfter, isLast: mismatches + 1 >= Self.sumAttempts) { return result }
                mismatches += 1
                do { try await Task.sleep(for: retry.firstWait) } catch { throw .cancelled }
                continue
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

    /// - Parameter isLast: throw when the MD5 differs.
    /// - Returns: `nil` when the MD5 differs and it was not the last try.
    private func once(
        _ url: UpstreamURL, _ path: String, _ known: Validators?, _ retryAfter: inout Duration?, isLast: Bool
    ) async throws(UpstreamError) -> Result? {
        let label = url.label
        async let announced = sum(beside: url)
        var headers: [String] = []
        // Never a value that could end the line and begin another.
        if let etag = known?.etag, Self.isPlain(etag) { headers.append("If-None-Match: \(etag)") }
        if let date = known?.lastModified, Self.isPlain(date) { headers.append("If-Modified-Since: \(date)") }
        let sink = FileSink(path: path, maxBytes: maxBytes)
        let response: CurlResponse
        do throws(TransferFailure) {
            response = try await curl.perform(
                CurlRequest(
                    url: url.whole, authorization: credentials.basic(for: url), headers: headers, limits: limits, maxBodyBytes: maxBytes,
                    priority: .foreground, server: url.endpoint, sink: sink))
        } catch {
            // Not left to `deinit`: the curl thread may hold the sink a moment longer than we wait.
            _ = await Self.files.run { sink.discard() }
            if error.isCancellation { throw .cancelled }
            throw .failed(retryable: error.retryable, line: "\(label): \(error.line)")
        }
        switch response.status {
        case 200:
            if let announced = await announced, let own = sink.sum, announced != own {
                _ = await Self.files.run { sink.discard() }
                guard isLast else { return nil }
                curl.counters.add(failure: .broken)
                throw .failed(
                    retryable: false,
                    line:
                        "\(label): the file's MD5 is \(own), but \(label).md5 says \(announced): it is damaged, or the hub is replacing it")
            }
            let finished = await Self.files.run { sink.finish() }
            switch finished {
            case .success(let digest):
                let validators = Validators(etag: response.etag, lastModified: response.lastModified)
                return .downloaded(path: path, digest: digest, bytes: sink.bytes, validators: validators)
            case .failure(let failure):
                _ = await Self.files.run { sink.discard() }
                curl.counters.add(failure: failure.kind)
                throw .failed(retryable: failure.retryable, line: "\(label): \(failure.line)")
            }
        case 304 where !headers.isEmpty: return .notModified
        case 404:
            curl.counters.add { $0.missing += 1 }
            throw .missing
        case let status:
            curl.counters.add(failure: .status)
            retryAfter = response.retryAfter
            throw .failed(retryable: status == 429 || status >= 500, line: "\(label): the server answered with status \(status)")
        }
    }

    private static let files = BlockingThreads(count: 1)

    /// The MD5 that the hub keeps beside the file, in lower case; `nil` where it keeps none that can be read. Not counted as a request
    /// for chunks or flists.
    private func sum(beside url: UpstreamURL) async -> String? {
        let body = ShortBody()
        let request = CurlRequest(
            url: url.url(withSuffix: ".md5"), authorization: credentials.basic(for: url), limits: Self.sumLimits,
            maxBodyBytes: Self.maxSumBytes, priority: .foreground, counters: UpstreamCounters(), sink: body)
        guard let response = try? await curl.perform(request), response.status == 200 else { return nil }
        return Self.sum(in: body.bytes)
    }

    /// 32 hex digits, alone or before a name, as md5sum writes them.
    static func sum(in body: [UInt8]) -> String? {
        let text = String(decoding: body, as: UTF8.self).drop { $0.isWhitespace }
        let digits = text.prefix { !$0.isWhitespace }
        guard digits.utf8.count == 32, let sum = Hex.decode(digits) else { return nil }
        return Hex.encode(sum)
    }

    private static func isPlain(_ value: String) -> Bool { !value.utf8.contains { $0 < 0x20 || $0 == 0x7f } }
}

/// Writes a body to a temporary file beside its destination and hashes it on the way.
private final class FileSink: TransferSink, @unchecked Sendable {
    private let path: String
    private let maxBytes: Int
    private let hash = Blake2bStream()
    private let md5 = MD5Stream()
    private var file: Int32 = -1
    private var temporary = ""
    private(set) var bytes = 0

    init(path: String, maxBytes: Int) { (self.path, self.maxBytes) = (path, maxBytes) }

    deinit { discard() }

    func take(_ piece: UnsafeRawBufferPointer, declared: Int?) throws(TransferFailure) {
        guard piece.count <= maxBytes - bytes else {
            throw TransferFailure(kind: .tooLong, retryable: false, line: "sends more than the \(maxBytes) bytes that an flist may have")
        }
        try create()
        var done = 0
        while done < piece.count {
            let wrote = write(file, piece.baseAddress! + done, piece.count - done)
            if wrote < 0, errno == EINTR { continue }
            guard wrote > 0 else { throw broken("write") }
            done += wrote
        }
        hash.update(piece)
        md5?.update(piece)
        bytes += piece.count
    }

    /// The MD5 of what was received; `nil` where the system's OpenSSL allows none.
    private(set) lazy var sum: String? = md5?.finish()

    /// Makes the file what `path` names. Blocking.
    func finish() -> Swift.Result<FlistDigest, TransferFailure> {
        Swift.Result { () throws(TransferFailure) in
            try create()
            guard fsync(file) == 0 else { throw broken("sync") }
            guard rename(temporary, path) == 0 else { throw broken("rename") }
            temporary = ""
            return FlistDigest(hash.finish())
        }
    }

    private func create() throws(TransferFailure) {
        guard file < 0 else { return }
        let name = "\(path).part-\(String(UInt64.random(in: 0...UInt64.max), radix: 16))"
        file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw broken("create") }
        temporary = name
    }

    /// Takes the temporary file away. Blocking.
    func discard() {
        if file >= 0 { close(file) }
        if !temporary.isEmpty { unlink(temporary) }
        (file, temporary) = (-1, "")
    }

    private func broken(_ what: String) -> TransferFailure {
        TransferFailure(
            kind: .file, retryable: false, line: "cannot \(what) the temporary file of \(path): \(String(cString: strerror(errno)))")
    }
}
