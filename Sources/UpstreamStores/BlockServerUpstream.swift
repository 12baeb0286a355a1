internal import ChunkModel
internal import Synchronization

/// rfs' server, read and written through its block API: `GET`, `HEAD` of `/api/v1/block/HEX`, and `POST` of the bytes to
/// `/api/v1/block`, which needs a token.
///
/// The token is the URL's, or the password that the credentials file has for the host under the login `token`. With any other name
/// and password, from the URL or the file, a token is asked of `/api/v1/signin`, once, and again when it is no longer taken.
final class BlockServerUpstream: ObjectStore {
    private let url: BlockServerURL
    private let curl: CurlMulti
    private let transfer: TransferLimits
    private let credentials: CredentialBox
    let gate: UpstreamGate
    /// Got by signing in.
    private let session = Mutex<String?>(nil)

    /// - Parameter gate: of this upstream, whose label is the URL's.
    init(url: BlockServerURL, curl: CurlMulti, transfer: TransferLimits, credentials: CredentialBox, gate: UpstreamGate) {
        (self.url, self.curl, self.transfer, self.credentials, self.gate) = (url, curl, transfer, credentials, gate)
    }

    /// - Throws: `UpstreamError` with one line; also when the server names the chunk otherwise, so that nobody would find it.
    func store(_ chunk: Chunk) async throws {
        try await gate.run(.prefetch) { () async throws(AttemptFailure) in try await post(chunk) }
        gate.noteStored(chunk)
    }

    private func path(of id: ChunkID) -> String { "api/v1/block/\(id.hex)" }

    func isThere(
        _ id: ChunkID, _ method: CurlRequest.Method, _ priority: FetchPriority, _ sink: any TransferSink
    ) async throws(AttemptFailure) -> Bool {
        // Reading is open to everybody; a token that is at hand may help with a proxy before the server.
        let response = try await perform(method, path(of: id), url.token, priority, sink)
        switch response.status {
        case 200: return true
        case 404:
            gate.counters.add { $0.missing += 1 }
            return false
        default: throw AttemptFailure(status: response, at: "\(label)/\(path(of: id))", counters: gate.counters)
        }
    }

    private func post(_ chunk: Chunk) async throws(AttemptFailure) {
        let place = "\(label)/api/v1/block"
        let held = url.token ?? fileToken ?? session.withLock { $0 }
        var token = held
        if token == nil { token = try await signIn() }
        var (response, answer) = try await upload(chunk, token)
        if response.status == 401 || response.status == 403, held != nil, url.token == nil, fileToken == nil {
            // The token has come of age.
            session.withLock { $0 = nil }
            (response, answer) = try await upload(chunk, try await signIn())
        }
        switch response.status {
        case 200, 201:
            guard String(decoding: answer, as: UTF8.self).contains(chunk.id.hex) else {
                gate.counters.add(failure: .other)
                throw AttemptFailure(
                    .failed(retryable: false, line: "\(place): the server did not take chunk \(chunk.id.hex.prefix(12))… under its id"))
            }
        case 401, 403:
            throw AttemptFailure(
                status: response, at: place, detail: ": the token is not taken; sign in again, or give a name and a password",
                counters: gate.counters)
        default: throw AttemptFailure(status: response, at: place, counters: gate.counters)
        }
    }

    private func upload(_ chunk: Chunk, _ token: String?) async throws(AttemptFailure) -> (CurlResponse, [UInt8]) {
        let sink = ShortBody()
        let headers = ["Content-Type: application/octet-stream"]
        // The place in a file means nothing here: blocks are found by their hash.
        let path = "api/v1/block?file_hash=&idx=0"
        let response = try await perform(.post(chunk.buffer), path, token, .prefetch, sink, headers: headers)
        return (response, response.status == 200 ? sink.bytes : response.otherBody)
    }

    private func perform(
        _ method: CurlRequest.Method, _ path: String, _ token: String?, _ priority: FetchPriority, _ sink: any TransferSink,
        headers: [String] = []
    ) async throws(AttemptFailure) -> CurlResponse {
        let request = CurlRequest(
            method: method, url: url.base.url(of: path), authorization: token.map { .bearer($0) }, keepsOtherBody: true, headers: headers,
            limits: transfer, maxBodyBytes: ChunkLimits.maxStoredBytes, priority: priority, counters: gate.counters, sink: sink)
        do throws(TransferFailure) {
            return try await curl.perform(request)
        } catch {
            throw AttemptFailure(error, at: "\(label)/\(path.prefix { $0 != "?" })")
        }
    }

    // MARK: Signing in

    private static let tokenLogin = "token"

    private var fileToken: String? {
        guard let found = credentials.credential(for: url.base.endpoint), found.user == Self.tokenLogin else { return nil }
        return BlockServerURL.isToken(found.password) ? found.password : nil
    }

    /// - Returns: `nil` when there is nothing to sign in with.
    private func signIn() async throws(AttemptFailure) -> String? {
        guard let credential = url.base.credential ?? credentials.credential(for: url.base.endpoint), credential.user != Self.tokenLogin
        else { return nil }
        let body = #"{"username":"\#(JSONText.escaped(credential.user))","password":"\#(JSONText.escaped(credential.password))"}"#
        let sink = ShortBody()
        let response = try await perform(
            .post(ChunkBuffer(copying: body.utf8)), "api/v1/signin", nil, .prefetch, sink, headers: ["Content-Type: application/json"])
        let answer = response.status == 200 ? sink.bytes : response.otherBody
        guard (200...201).contains(response.status) else {
            throw AttemptFailure(
                status: response, at: "\(label)/api/v1/signin",
                detail: response.status == 401 ? ": the name or the password is wrong" : "", counters: gate.counters)
        }
        guard let token = JSONText.string("access_token", in: answer), BlockServerURL.isToken(token) else {
            gate.counters.add(failure: .other)
            throw AttemptFailure(.failed(retryable: false, line: "\(label)/api/v1/signin: the server gave no token"))
        }
        session.withLock { $0 = token }
        return token
    }
}

/// Takes an answer of a few lines; what goes beyond is thrown away.
final class ShortBody: TransferSink, @unchecked Sendable {
    static let maxBytes = 4 * 1024
    private(set) var bytes: [UInt8] = []

    func take(_ piece: UnsafeRawBufferPointer, declared: Int?) throws(TransferFailure) {
        bytes += piece.prefix(Self.maxBytes - bytes.count)
    }
}

/// The little JSON that the block server's sign-in needs.
enum JSONText {
    static func escaped(_ text: String) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case _ where scalar.value < 0x20:
                let hex = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }

    /// The first string under `key`, at whatever depth; `nil` when there is none or it holds escapes, which no token does.
    static func string(_ key: String, in body: [UInt8]) -> String? {
        let text = String(decoding: body, as: UTF8.self)
        guard let found = text.firstRange(of: "\"\(key)\"") else { return nil }
        var rest = text[found.upperBound...].drop { $0.isWhitespace }
        guard rest.popFirst() == ":" else { return nil }
        rest = rest.drop { $0.isWhitespace }
        guard rest.popFirst() == "\"" else { return nil }
        let value = rest.prefix { $0 != "\"" }
        guard value.endIndex < text.endIndex, !value.contains("\\") else { return nil }
        return String(value)
    }
}
