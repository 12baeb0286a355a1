internal import CSodium
internal import ChunkModel

/// The keys whose holders form a mesh. The first one seals; every one opens, so that keys can be changed while the mesh runs.
public struct MeshKeyRing: Sendable {
    public static let keyBytes = 32
    /// Bytes that sealing adds: 24 of nonce in front, 16 of tag behind (XChaCha20-Poly1305).
    public static let overhead = 24 + 16
    /// More keys than a rotation needs; a longer file is refused, since every foreign datagram costs a try for each key.
    public static let maxKeys = 8

    private let keys: [[UInt8]]

    /// `nil` unless there are 1...`maxKeys` keys of 32 bytes.
    public init?(keys: [[UInt8]]) {
        Sodium.ready
        guard (1...Self.maxKeys).contains(keys.count), keys.allSatisfy({ $0.count == Self.keyBytes }) else { return nil }
        self.keys = keys
    }

    public static func randomKey() -> [UInt8] { Sodium.randomBytes(keyBytes) }

    /// nonce ‖ ciphertext ‖ tag. `context` is bound to the message but not sent: what is sealed for one purpose opens for no other.
    public func seal(_ plain: [UInt8], context: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: plain.count + Self.overhead)
        out.withUnsafeMutableBufferPointer { out in
            randombytes_buf(out.baseAddress!, 24)
            crypto_aead_xchacha20poly1305_ietf_encrypt(
                out.baseAddress! + 24, nil, plain, UInt64(plain.count), context, UInt64(context.count), nil, out.baseAddress!, keys[0])
        }
        return out
    }

    /// `nil` when no key opens it, for whatever reason: a stranger learns nothing from the difference.
    public func open(_ sealed: [UInt8], context: [UInt8]) -> [UInt8]? {
        guard sealed.count >= Self.overhead else { return nil }
        var plain = [UInt8](repeating: 0, count: sealed.count - Self.overhead)
        for key in keys {
            let opened = sealed.withUnsafeBufferPointer { sealed in
                plain.withUnsafeMutableBufferPointer { plain in
                    crypto_aead_xchacha20poly1305_ietf_decrypt(
                        plain.baseAddress, nil, nil, sealed.baseAddress! + 24, UInt64(sealed.count - 24), context, UInt64(context.count),
                        sealed.baseAddress!, key)
                }
            }
            if opened == 0 { return plain }
        }
        return nil
    }
}
