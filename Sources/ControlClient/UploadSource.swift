internal import CCurl

/// Gives curl the bytes of a body as it asks for them.
final class UploadSource {
    /// Bytes that are asked for at a time: curl's most.
    private static let bufferBytes = 2 << 20
    private let read: (UnsafeMutableRawBufferPointer) -> Int?
    private(set) var isStopped = false

    init(read: @escaping (UnsafeMutableRawBufferPointer) -> Int?) { self.read = read }

    /// To be kept alive while the transfer runs.
    func prepare(_ curl: UnsafeMutableRawPointer, _ headers: UnsafeMutablePointer<curl_slist>?) {
        _ = chunkmesh_curl_set_list(curl, CURLOPT_HTTPHEADER, headers)
        // Of unknown length: HTTP's chunked coding.
        _ = chunkmesh_curl_set_long(curl, CURLOPT_UPLOAD, 1)
        _ = chunkmesh_curl_set_long(curl, CURLOPT_UPLOAD_BUFFERSIZE, Self.bufferBytes)
        _ = chunkmesh_curl_set_callback(curl, CURLOPT_READFUNCTION) { bytes, size, count, context in
            Unmanaged<UploadSource>.fromOpaque(context!).takeUnretainedValue().fill(bytes, size * count)
        }
        _ = chunkmesh_curl_set_pointer(curl, CURLOPT_READDATA, Unmanaged.passUnretained(self).toOpaque())
    }

    private func fill(_ bytes: UnsafeMutablePointer<CChar>?, _ count: Int) -> Int {
        guard let filled = read(UnsafeMutableRawBufferPointer(start: bytes, count: count)) else {
            isStopped = true
            return Int(CURL_READFUNC_ABORT)
        }
        return filled
    }
}
