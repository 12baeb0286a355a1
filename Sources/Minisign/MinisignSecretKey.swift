internal import CSodium
internal import ChunkModel

/// A secret key of minisign, ready to sign.
public struct MinisignSecretKey: Sendable {
    /// 64 bytes as libsodium keeps them: seed and public key.
    let secret: [UInt8]
    public let publicKey: MinisignPublicKey

    /// `nil` when the halves of `secret` are not of one pair: signing with such a key would give it away.
    init?(id: MinisignKeyID, secret: [UInt8]) {
        Sodium.ready
        var (publicKey, expected) = ([UInt8](repeating: 0, count: 32), [UInt8](repeating: 0, count: 64))
        crypto_sign_seed_keypair(&publicKey, &expected, Array(secret.prefix(32)))
        guard expected == secret else { return nil }
        self.secret = secret
        self.publicKey = MinisignPublicKey(id: id, key: publicKey)
    }

    /// A new key pair.
    public static func generate() -> MinisignSecretKey {
        Sodium.ready
        var (publicKey, secret) = ([UInt8](repeating: 0, count: 32), [UInt8](repeating: 0, count: 64))
        crypto_sign_seed_keypair(&publicKey, &secret, Sodium.randomBytes(32))
        return MinisignSecretKey(id: MinisignKeyID(Sodium.randomBytes(MinisignKeyID.byteCount)), secret: secret)!
    }

    /// Signs a file by its BLAKE2b-512, as minisign does by default since 0.10.
    ///
    /// - Parameters:
    ///   - digest: 64 bytes, of a `Blake2b512Stream`.
    ///   - untrustedComment: not signed.
    /// - Throws: `MinisignError.malformed` when a comment is longer than `MinisignSignature.maxCommentBytes` or holds control characters.
    public func sign(digest: [UInt8], untrustedComment: String, trustedComment: String) throws(MinisignError) -> MinisignSignature {
        for (name, comment) in [("untrusted", untrustedComment), ("trusted", trustedComment)] {
            guard comment.utf8.count <= MinisignSignature.maxCommentBytes, MinisignText.isPlain(Array(comment.utf8)) else {
                throw MinisignError(
                    .malformed,
                    "the \(name) comment must be one line of at most \(MinisignSignature.maxCommentBytes) bytes without control characters")
            }
        }
        let signature = sign(digest)
        return MinisignSignature(
            algorithm: .prehashed, keyID: publicKey.id, untrustedComment: Array(untrustedComment.utf8),
            trustedComment: Array(trustedComment.utf8), signature: signature,
            globalSignature: sign(signature + Array(trustedComment.utf8)))
    }

    private func sign(_ message: [UInt8]) -> [UInt8] {
        var signature = [UInt8](repeating: 0, count: MinisignSignature.signatureBytes)
        crypto_sign_detached(&signature, nil, message, UInt64(message.count), secret)
        return signature
    }
}
