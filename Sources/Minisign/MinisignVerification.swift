internal import CSodium
internal import ChunkModel

/// Checks a signature against bytes that arrive in pieces, with the same little memory for any size. One owner at a time.
public final class MinisignVerification {
    private enum Hash {
        case prehashed(Blake2b512Stream)
        case legacy(Ed25519Stream)
    }

    private let signature: MinisignSignature
    private let key: MinisignPublicKey
    private let hash: Hash

    /// - Throws: `MinisignError`: `.otherKey`; `.wrong` when already the trusted comment was changed.
    public init(_ signature: MinisignSignature, by key: MinisignPublicKey) throws(MinisignError) {
        Sodium.ready
        guard signature.keyID == key.id else {
            throw MinisignError(.otherKey, "signed with the key \(signature.keyID), not with \(key.id)")
        }
        let signed = signature.signature + signature.trustedComment
        guard crypto_sign_verify_detached(signature.globalSignature, signed, UInt64(signed.count), key.key) == 0 else {
            throw MinisignError(.wrong, "the signature is wrong: its trusted comment is not what the key \(key.id) signed")
        }
        (self.signature, self.key) = (signature, key)
        switch signature.algorithm {
        case .prehashed: hash = .prehashed(Blake2b512Stream())
        case .legacy: hash = .legacy(Ed25519Stream(signature: signature.signature, key: key.key))
        }
    }

    public func update(_ bytes: UnsafeRawBufferPointer) {
        switch hash {
        case .prehashed(let stream): stream.update(bytes)
        case .legacy(let stream): stream.update(bytes)
        }
    }

    /// - Throws: `MinisignError.wrong` unless all that was added is what the key signed. To be called once.
    public func finish() throws(MinisignError) {
        let isRight =
            switch hash {
            case .prehashed(let stream):
                crypto_sign_verify_detached(signature.signature, stream.finish(), UInt64(Blake2b512Stream.byteCount), key.key) == 0
            case .legacy(let stream): stream.finish()
            }
        guard isRight else { throw MinisignError(.wrong, "the signature is wrong: these are not the bytes that the key \(key.id) signed") }
    }
}

/// BLAKE2b-512 of bytes that arrive in pieces. One owner at a time.
public final class Blake2b512Stream {
    public static let byteCount = 64
    private let state: OpaquePointer
    private let memory: UnsafeMutableRawPointer

    public init() {
        Sodium.ready
        // 64-byte aligned, which Swift's allocation of an imported struct would not promise.
        memory = .allocate(byteCount: crypto_generichash_statebytes(), alignment: 64)
        state = OpaquePointer(memory)
        crypto_generichash_init(state, nil, 0, Self.byteCount)
    }

    deinit { memory.deallocate() }

    public func update(_ bytes: UnsafeRawBufferPointer) {
        crypto_generichash_update(state, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count))
    }

    /// The 64 bytes of the hash; the stream takes nothing more afterwards.
    public func finish() -> [UInt8] {
        var out = [UInt8](repeating: 0, count: Self.byteCount)
        crypto_generichash_final(state, &out, out.count)
        return out
    }
}
