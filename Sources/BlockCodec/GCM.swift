internal import CCrypto
internal import ChunkModel
internal import Synchronization

/// AES-256-GCM with the first 12 bytes of the key as nonce and no associated data (FORMATS.md §1.3). The nonce is safe since
/// a key belongs to one content only.
enum GCM {
    static let tagBytes = 16
    private static let nonceBytes: Int32 = 12
    /// Contexts kept for the next block; as many as threads decode at once on a large machine. Further ones are freed.
    private static let keptContexts = 64

    private struct Idle: @unchecked Sendable {
        var contexts: [OpaquePointer] = []
    }
    private static let idle = Mutex(Idle())
    /// Fetched once: since OpenSSL 3 each implicit look-up takes locks.
    private nonisolated(unsafe) static let cipher = EVP_CIPHER_fetch(nil, "AES-256-GCM", nil)

    /// Lends a context to `body`; `nil` when OpenSSL cannot make one.
    private static func withContext<R>(_ body: (OpaquePointer) -> R) -> R? {
        let taken = idle.withLock { idle in Idle(contexts: idle.contexts.popLast().map { [$0] } ?? []) }
        guard let context = taken.contexts.first ?? EVP_CIPHER_CTX_new() else { return nil }
        let result = body(context)
        let back = Idle(contexts: [context])
        let kept = idle.withLock { idle in
            guard idle.contexts.count < keptContexts else { return false }
            idle.contexts.append(contentsOf: back.contexts)
            return true
        }
        if !kept { EVP_CIPHER_CTX_free(back.contexts[0]) }
        return result
    }

    /// Writes the ciphertext and the tag, `plain.count + 16` bytes, to `out`.
    ///
    /// - Returns: `false` when OpenSSL failed.
    static func seal(_ plain: UnsafeRawBufferPointer, key: Bytes32, to out: UnsafeMutableRawPointer) -> Bool {
        withContext { context in
            withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { keyBytes in
                key.write(to: keyBytes)
                let start = keyBytes.baseAddress!.assumingMemoryBound(to: UInt8.self)
                let target = out.assumingMemoryBound(to: UInt8.self)
                var written: Int32 = 0
                var final: Int32 = 0
                return EVP_EncryptInit_ex2(context, cipher, start, start, nil) == 1
                    && EVP_EncryptUpdate(
                        context, target, &written, plain.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(plain.count)) == 1
                    && EVP_EncryptFinal_ex(context, target + Int(written), &final) == 1
                    && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, Int32(tagBytes), target + plain.count) == 1
            }
        } ?? false
    }

    enum Opened { case plain, wrongTag, failed }

    /// Writes `stored.count - 16` bytes to `out`, which the caller must not use unless the result is `plain`.
    static func open(_ stored: UnsafeRawBufferPointer, key: Bytes32, to out: UnsafeMutableRawPointer) -> Opened {
        let count = stored.count - tagBytes
        guard count >= 0, let start = stored.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return .wrongTag }
        return withContext { context in
            withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { keyBytes in
                key.write(to: keyBytes)
                let keyStart = keyBytes.baseAddress!.assumingMemoryBound(to: UInt8.self)
                let target = out.assumingMemoryBound(to: UInt8.self)
                var written: Int32 = 0
                var final: Int32 = 0
                guard EVP_DecryptInit_ex2(context, cipher, keyStart, keyStart, nil) == 1,
                    EVP_DecryptUpdate(context, target, &written, start, Int32(count)) == 1,
                    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(tagBytes), UnsafeMutableRawPointer(mutating: start + count))
                        == 1
                else { return .failed }
                guard EVP_DecryptFinal_ex(context, target + Int(written), &final) == 1 else {
                    ERR_clear_error()
                    return .wrongTag
                }
                return .plain
            }
        } ?? .failed
    }
}
