internal import CCrypto
internal import ChunkModel

/// MD5 of bytes that come in pieces (RFC 1321). It tells damage apart, not malice.
final class MD5Stream {
    private let context: OpaquePointer

    /// `nil` where OpenSSL allows no MD5 (FIPS mode) or has no memory.
    init?() {
        guard let context = EVP_MD_CTX_new() else { return nil }
        guard EVP_DigestInit_ex(context, EVP_md5(), nil) == 1 else {
            EVP_MD_CTX_free(context)
            return nil
        }
        self.context = context
    }

    deinit { EVP_MD_CTX_free(context) }

    func update(_ bytes: UnsafeRawBufferPointer) { EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) }

    /// In hex. Nothing may be added afterwards.
    func finish() -> String? {
        var digest = [UInt8](repeating: 0, count: 16)
        var length: UInt32 = 0
        guard EVP_DigestFinal_ex(context, &digest, &length) == 1, length == 16 else { return nil }
        return Hex.encode(digest)
    }
}
