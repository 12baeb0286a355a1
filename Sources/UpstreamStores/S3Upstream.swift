internal import BlockingThreads
internal import CCrypto
internal import ChunkModel

/// A bucket of an S3 store, read and written: the object's name is the chunk's id in hex (FORMATS.md §1.5), addressed by path.
///
/// Requests are signed with the keys of the URL, else with those for the host in the credentials file, else, where the operator or the
/// user named the host, with those of the environment; without any they are anonymous.
final class S3Upstream: ObjectStore {
    /// SHA-256 of no bytes.
    private static let emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    /// Threads that hash what is sent.
    private static let hashers = BlockingThreads(count: 2)

    private let url: S3URL
    private let curl: CurlMulti
    private let transfer: TransferLimits
    private let credentials: CredentialBox
    let gate: UpstreamGate

    /// - Parameter gate: of this upstream, whose label is the URL's.
    init(url: S3URL, curl: CurlMulti, transfer: TransferLimits, credentials: CredentialBox, gate: UpstreamGate) {
        (self.url, self.curl, self.transfer, self.credentials, self.gate) = (url, curl, transfer, credentials, gate)
    }

    /// - Throws: `UpstreamError` with one line.
    func store(_ chunk: Chunk) async throws {
        let hash = await Self.hashers.run { chunk.buffer.withBytes(Self.sha256) }
        try await gate.run(.prefetch) { () async throws(AttemptFailure) in
            let headers = ["Content-Type: application/octet-stream"]
            let response = try await perform(chunk.id, .put(chunk.buffer), hash, headers, .prefetch, NoBody())
            guard (200...204).contains(response.status) else { throw failure(response, chunk.id) }
        }
        gate.noteStored(chunk)
    }

    func isThere(
        _ id: ChunkID, _ method: CurlRequest.Method, _ priority: FetchPriority, _ sink: any TransferSink
    ) async throws(AttemptFailure) -> Bool {
        let response = try await perform(id, method, Self.emptyHash, [], priority, sink)
        switch response.status {
        case 200: return true
        case 404 where S3Answer(response.otherBody).code != "NoSuchBucket":
            gate.counters.add { $0.missing += 1 }
            return false
        default: throw failure(response, id)
        }
    }

    private func perform(
        _ id: ChunkID, _ method: CurlRequest.Method, _ hash: String, _ headers: [String], _ priority: FetchPriority,
        _ sink: any TransferSink
    ) async throws(AttemptFailure) -> CurlResponse {
        var request = CurlRequest(
            method: method, url: "\(url.base)/\(id.hex)", keepsOtherBody: true, headers: headers, limits: transfer,
            maxBodyBytes: ChunkLimits.maxStoredBytes, priority: priority, counters: gate.counters, sink: sink)
        if let credential {
            request.authorization = .aws(credential.keys, region: region)
            request.headers.append("x-amz-content-sha256: \(hash)")
            if let token = credential.sessionToken, BlockServerURL.isToken(token) {
                request.headers.append("x-amz-security-token: \(token)")
            }
        }
        do throws(TransferFailure) {
            return try await curl.perform(request)
        } catch {
            throw AttemptFailure(error, at: "\(label)/\(id.hex)")
        }
    }

    private var credential: AWSCredential? {
        url.keys.map { AWSCredential(keys: $0) } ?? credentials.aws(for: url.endpoint)
    }

    private var region: String {
        let fromEnvironment = credentials.awsRegion(for: url.endpoint).flatMap { S3URL.isRegion($0) ? $0 : nil }
        return url.region ?? fromEnvironment ?? S3URL.defaultRegion
    }

    private func failure(_ response: CurlResponse, _ id: ChunkID) -> AttemptFailure {
        let answer = S3Answer(response.otherBody)
        var detail = answer.explanation(bucket: url.bucket, isAnonymous: credential == nil)
        if answer.code == nil {
            switch response.status {
            // A HEAD has no body that could say more.
            case 401, 403: detail = credential == nil ? ": there are no keys for this host" : ": these keys may not do this, or are wrong"
            case 301, 302, 307, 308: detail = ": the bucket lies in another region or at another host"
            default: break
            }
        }
        return AttemptFailure(status: response, at: "\(label)/\(id.hex)", detail: detail, counters: gate.counters)
    }

    private static func sha256(_ bytes: UnsafeRawBufferPointer) -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        var length: UInt32 = 0
        let isDone = EVP_Digest(bytes.baseAddress, bytes.count, &digest, &length, EVP_sha256(), nil)
        // Without memory for the digest the signature is refused by the server, in its own words.
        return isDone == 1 && length == 32 ? Hex.encode(digest) : "UNSIGNED-PAYLOAD"
    }
}
