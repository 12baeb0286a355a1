internal import CCurl
internal import ControlModel
internal import FoundationEssentials

/// Talks to a daemon's API over its Unix socket or TCP. Calls block: it serves command-line programs.
public struct ControlClient: Sendable {
    /// The largest JSON answer that is taken.
    static let maxAnswerBytes = 64 << 20
    /// A daemon that does not accept within this time is not there.
    static let connectMilliseconds = 3000

    public let endpoint: ControlEndpoint

    public init(_ endpoint: ControlEndpoint) {
        self.endpoint = endpoint
        _ = Self.curlReady
    }

    private static let curlReady: Void = { curl_global_init(Int(CURL_GLOBAL_DEFAULT)) }()

    public func get<Answer: Decodable>(_ path: String, as type: Answer.Type = Answer.self) throws(ControlError) -> Answer {
        try decode(try exchange("GET", path, body: nil))
    }

    public func post<Answer: Decodable>(_ path: String, _ body: (some Encodable)?, as type: Answer.Type = Answer.self) throws(ControlError)
        -> Answer
    {
        var encoded: [UInt8] = Array("{}".utf8)
        if let body {
            guard let json = try? JSONEncoder().encode(body) else { throw .broken("the request cannot be written as JSON") }
            encoded = Array(json)
        }
        return try decode(try exchange("POST", path, body: encoded))
    }

    public func delete<Answer: Decodable>(_ path: String, as type: Answer.Type = Answer.self) throws(ControlError) -> Answer {
        try decode(try exchange("DELETE", path, body: nil))
    }

    /// A body of at most `maxBytes`, as it is.
    public func bytes(_ path: String, maxBytes: Int) throws(ControlError) -> [UInt8] {
        let sink = Sink(limit: maxBytes, receive: nil)
        try perform("GET", path, body: nil, range: nil, sink: sink)
        return sink.bytes
    }

    /// Content of a file, or a range of it, in pieces as they come.
    ///
    /// - Parameters:
    ///   - range: the `Range` header's value without `bytes=`, such as `0-99`.
    ///   - receive: gets each piece; `false` ends the transfer with `ControlError.stopped`.
    public func stream(_ path: String, range: String?, receive: @escaping (UnsafeRawBufferPointer) -> Bool) throws(ControlError) {
        let sink = Sink(limit: .max, receive: receive)
        try perform("GET", path, body: nil, range: range, sink: sink)
        if sink.stopped { throw .stopped }
    }

    /// Sends a body of unknown length, in pieces as `read` gives them.
    ///
    /// - Parameter read: fills the buffer and says how many bytes it put there; 0 ends the body, `nil` ends the transfer with
    ///   `ControlError.stopped`.
    public func upload<Answer: Decodable>(
        _ path: String, as type: Answer.Type = Answer.self, read: @escaping (UnsafeMutableRawBufferPointer) -> Int?
    ) throws(ControlError) -> Answer {
        let sink = Sink(limit: Self.maxAnswerBytes, receive: nil)
        try perform("POST", path, body: nil, range: nil, sink: sink, upload: UploadSource(read: read))
        return try decode(sink.bytes)
    }

    /// Percent-encodes the bytes of a path; slashes stay.
    public static func escape(path: [UInt8]) -> String {
        var out = ""
        for byte in path {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "/"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
                out.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let hex = String(byte, radix: 16, uppercase: true)
                out += "%" + (hex.count == 1 ? "0" + hex : hex)
            }
        }
        return out
    }

    // MARK: One exchange

    private func exchange(_ method: String, _ path: String, body: [UInt8]?) throws(ControlError) -> [UInt8] {
        let sink = Sink(limit: Self.maxAnswerBytes, receive: nil)
        try perform(method, path, body: body, range: nil, sink: sink)
        return sink.bytes
    }

    private func decode<Answer: Decodable>(_ bytes: [UInt8]) throws(ControlError) -> Answer {
        do {
            return try JSONDecoder().decode(Answer.self, from: Data(bytes))
        } catch {
            throw .broken("the daemon at \(endpoint) answered with something else than expected; is it of another version?")
        }
    }

    private func perform(
        _ method: String, _ path: String, body: [UInt8]?, range: String?, sink: Sink, upload: UploadSource? = nil
    ) throws(ControlError) {
        guard let curl = curl_easy_init() else { throw .broken("libcurl could not be set up") }
        defer { curl_easy_cleanup(curl) }
        switch endpoint {
        case .unix(let socket):
            _ = chunkmesh_curl_set_string(curl, CURLOPT_UNIX_SOCKET_PATH, socket)
            _ = chunkmesh_curl_set_string(curl, CURLOPT_URL, "http://localhost" + path)
        case .http(let base): _ = chunkmesh_curl_set_string(curl, CURLOPT_URL, base + path)
        }
        _ = chunkmesh_curl_set_string(curl, CURLOPT_NOPROXY, "*")
        _ = chunkmesh_curl_set_string(curl, CURLOPT_CUSTOMREQUEST, method)
        _ = chunkmesh_curl_set_long(curl, CURLOPT_NOSIGNAL, 1)
        _ = chunkmesh_curl_set_long(curl, CURLOPT_PATH_AS_IS, 1)
        _ = chunkmesh_curl_set_long(curl, CURLOPT_CONNECTTIMEOUT_MS, Self.connectMilliseconds)
        if let range { _ = chunkmesh_curl_set_string(curl, CURLOPT_RANGE, range) }
        var headers: UnsafeMutablePointer<curl_slist>?
        defer { curl_slist_free_all(headers) }
        if let upload {
            headers = curl_slist_append(headers, "Content-Type: application/octet-stream")
            headers = curl_slist_append(headers, "Expect:")
            upload.prepare(curl, headers)
        }
        if sink.isStream {
            // A directory is no content for those who want a file: without this it would be a page.
            headers = curl_slist_append(headers, "Accept: application/octet-stream")
            _ = chunkmesh_curl_set_list(curl, CURLOPT_HTTPHEADER, headers)
        }
        if let body {
            headers = curl_slist_append(headers, "Content-Type: application/json")
            headers = curl_slist_append(headers, "Expect:")
            _ = chunkmesh_curl_set_list(curl, CURLOPT_HTTPHEADER, headers)
            _ = chunkmesh_curl_set_offset(curl, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
            body.withUnsafeBytes {
                _ = chunkmesh_curl_set_pointer(curl, CURLOPT_COPYPOSTFIELDS, UnsafeMutableRawPointer(mutating: $0.baseAddress))
            }
        }
        sink.curl = curl
        _ = chunkmesh_curl_set_callback(curl, CURLOPT_WRITEFUNCTION) { bytes, size, count, context in
            let sink = Unmanaged<Sink>.fromOpaque(context!).takeUnretainedValue()
            return sink.take(UnsafeRawBufferPointer(start: bytes, count: size * count)) ? size * count : 0
        }
        _ = chunkmesh_curl_set_pointer(curl, CURLOPT_WRITEDATA, Unmanaged.passUnretained(sink).toOpaque())
        let result = withExtendedLifetime(upload) { curl_easy_perform(curl) }
        if upload?.isStopped == true { throw .stopped }
        try judge(result, status: sink.status, sink: sink)
    }

    private func judge(_ result: CURLcode, status: Int, sink: Sink) throws(ControlError) {
        if sink.stopped { return }
        guard result == CURLE_OK else {
            let reason = String(cString: curl_easy_strerror(result))
            if result == CURLE_COULDNT_CONNECT || result == CURLE_COULDNT_RESOLVE_HOST
                || (result == CURLE_OPERATION_TIMEDOUT && status == 0)
            {
                throw .noDaemon(endpoint, reason.lowercased())
            }
            throw .broken("the connection to the daemon at \(endpoint) broke: \(reason.lowercased())")
        }
        guard status < 400 else {
            let answer = try? JSONDecoder().decode(ErrorAnswer.self, from: Data(sink.bytes))
            throw .refused(status: status, answer?.error ?? "the daemon answered with status \(status)")
        }
    }
}

/// Collects an answer, or hands it on; error bodies are always collected.
private final class Sink {
    var bytes: [UInt8] = []
    var stopped = false
    var curl: UnsafeMutableRawPointer?
    private let limit: Int
    private let receive: ((UnsafeRawBufferPointer) -> Bool)?

    var isStream: Bool { receive != nil }

    init(limit: Int, receive: ((UnsafeRawBufferPointer) -> Bool)?) { (self.limit, self.receive) = (limit, receive) }

    var status: Int {
        var code = 0
        if let curl { _ = chunkmesh_curl_get_long(curl, CURLINFO_RESPONSE_CODE, &code) }
        return code
    }

    func take(_ piece: UnsafeRawBufferPointer) -> Bool {
        if let receive, status < 400 {
            stopped = !receive(piece)
            return !stopped
        }
        guard bytes.count + piece.count <= limit else { return false }
        bytes += piece
        return true
    }
}
