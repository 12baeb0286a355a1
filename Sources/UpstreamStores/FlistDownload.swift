internal import BlockingThreads
public import ChunkModel
internal import Glibc

/// Fetches an flist from a URL to a file, unless it is still the one known.
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

    private let curl: CurlMulti
    private let limits: TransferLimits
    private let retry: RetryLimits
    private let random: UpstreamRandom
    private let maxBytes: Int

    public init(
        curl: CurlMulti, limits: TransferLimits = .flist, retry: RetryLimits = RetryLimits(), random: UpstreamRandom = UpstreamRandom(),
        maxBytes: Int = Self.maxBytes
    ) {
        (self.curl, self.limits, self.retry, self.random, self.maxBytes) = (curl, limits, retry, random, maxBytes)
    }

    /// - Parameters:
    ///   - url: http or https.
    ///   - path: replaced when the whole flist has arrived, through a temporary file beside it; untouched otherwise.
    ///   - known: of the version that the caller has; with them the answer may be `.notModified`.
    /// - Throws: `.missing` upon 404.
    public func fetch(_ url: String, to path: String, known: Validators? = nil) async throws(UpstreamError) -> Result {
        let label = try UpstreamURL(url).label
        var attempt = 1
        while true {
            let failure: UpstreamError
            var retryAfter: Duration?
            do throws(UpstreamError) {
                return try await once(url, label, path, known, &retryAfter)
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

    private func once(
        _ url: String, _ label: String, _ path: String, _ known: Validators?, _ retryAfter: inout Duration?
    ) async throws(UpstreamError) -> Result {
        var headers: [String] = []
        // Never a value that could end the line and begin another.
        if let etag = known?.etag, Self.isPlain(etag) { headers.append("If-None-Match: \(etag)") }
        if let date = known?.lastModified, Self.isPlain(date) { headers.append("If-Modified-Since: \(date)") }
        let sink = FileSink(path: path, maxBytes: maxBytes)
        let response: CurlResponse
        do throws(TransferFailure) {
            response = try await curl.perform(
                CurlRequest(url: url, headers: headers, limits: limits, maxBodyBytes: maxBytes, priority: .foreground, sink: sink))
        } catch {
            // Not left to `deinit`: the curl thread may hold the sink a moment longer than we wait.
            _ = await Self.files.run { sink.discard() }
            if error.isCancellation { throw .cancelled }
            throw .failed(retryable: error.retryable, line: "\(label): \(error.line)")
        }
        switch response.status {
        case 200:
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

    private static func isPlain(_ value: String) -> Bool { !value.utf8.contains { $0 < 0x20 || $0 == 0x7f } }
}

/// Writes a body to a temporary file beside its destination and hashes it on the way.
private final class FileSink: TransferSink, @unchecked Sendable {
    private let path: String
    private let maxBytes: Int
    private let hash = Blake2bStream()
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
        bytes += piece.count
    }

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
