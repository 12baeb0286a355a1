internal import CSodium

/// Verifies an Ed25519 signature over bytes that arrive in pieces (RFC 8032 §5.1.7), where libsodium wants the whole message at once.
///
/// R ‖ S is right when S·B = R + k·A with k = SHA-512(R ‖ A ‖ message). As libsodium does, R' = S·B − k·A is computed and compared with R
/// byte by byte; S must be reduced.
final class Ed25519Stream {
    private var state = crypto_hash_sha512_state()
    private let signature: [UInt8]
    private let key: [UInt8]

    /// - Parameters:
    ///   - signature: 64 bytes.
    ///   - key: 32 bytes, a point of the prime-order group.
    init(signature: [UInt8], key: [UInt8]) {
        (self.signature, self.key) = (signature, key)
        crypto_hash_sha512_init(&state)
        crypto_hash_sha512_update(&state, signature, 32)
        crypto_hash_sha512_update(&state, key, 32)
    }

    func update(_ bytes: UnsafeRawBufferPointer) {
        crypto_hash_sha512_update(&state, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count))
    }

    func finish() -> Bool {
        var hash = [UInt8](repeating: 0, count: 64)
        crypto_hash_sha512_final(&state, &hash)
        let scalar = Array(signature[32...])
        var (reduced, k) = ([UInt8](repeating: 0, count: 32), [UInt8](repeating: 0, count: 32))
        crypto_core_ed25519_scalar_reduce(&reduced, scalar + [UInt8](repeating: 0, count: 32))
        crypto_core_ed25519_scalar_reduce(&k, hash)
        guard reduced == scalar else { return false }
        var (left, right, r) = (reduced, reduced, reduced)
        guard crypto_scalarmult_ed25519_base_noclamp(&left, scalar) == 0, crypto_scalarmult_ed25519_noclamp(&right, k, key) == 0,
            crypto_core_ed25519_sub(&r, left, right) == 0
        else { return false }
        return r == Array(signature[..<32])
    }
}
