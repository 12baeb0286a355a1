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
    /// Of all keys; the first one seals.
    public let fingerprints: [MeshKeyFingerprint]

    /// `nil` unless there are 1...`maxKeys` keys of 32 bytes.
    public init?(keys: [[UInt8]]) {
        Sodium.ready
        guard (1...Self.maxKeys).contains(keys.count), keys.allSatisfy({ $0.count == Self.keyBytes }) else { return nil }
        self.keys = keys
        fingerprints = keys.map { MeshKeyFingerprint(ofKey: $0) }
    }

    public static func randomKey() -> [UInt8] { Sodium.randomBytes(keyBytes) }

    /// The keys themselves, for their file. Whoever gets them owes them secrecy.
    public var rawKeys: [[UInt8]] { keys }

    /// The key of a fingerprint.
    public func key(of fingerprint: MeshKeyFingerprint) -> [UInt8]? { fingerprints.firstIndex(of: fingerprint).map { keys[$0] } }

    // MARK: Rotation

    /// With `key` as one more that opens; the same ring when it is there. `nil` when the ring is full or the key has another size.
    public func installing(_ key: [UInt8]) -> MeshKeyRing? { keys.contains(key) ? self : MeshKeyRing(keys: keys + [key]) }

    /// With this key as the one that seals; `nil` when it is not installed.
    public func using(_ fingerprint: MeshKeyFingerprint) -> MeshKeyRing? {
        guard let place = fingerprints.firstIndex(of: fingerprint) else { return nil }
        var keys = keys
        keys.insert(keys.remove(at: place), at: 0)
        return MeshKeyRing(keys: keys)
    }

    /// Without this key, the same ring when it is not there; `nil` for the one that seals.
    public func removing(_ fingerprint: MeshKeyFingerprint) -> MeshKeyRing? {
        guard fingerprint != fingerprints[0] else { return nil }
        guard let place = fingerprints.firstIndex(of: fingerprint) else { return self }
        var keys = keys
        keys.remove(at: place)
        return MeshKeyRing(keys: keys)
    }

    // MARK: Sealing

    /// nonce ‖ ciphertext ‖ tag. `context` is bound to the message but not sent: what is sealed for one purpose opens for no other.
    /// - Parameter key: the one to seal with, for an answer to somebody who may not have the first one yet; an unknown one is the first.
    public func seal(_ plain: [UInt8], context: [UInt8], with key: MeshKeyFingerprint? = nil) -> [UInt8] {
        let place = key.flatMap { fingerprints.firstIndex(of: $0) } ?? 0
        var out = [UInt8](repeating: 0, count: plain.count + Self.overhead)
        out.withUnsafeMutableBufferPointer { out in
            randombytes_buf(out.baseAddress!, 24)
            crypto_aead_xchacha20poly1305_ietf_encrypt(
                out.baseAddress! + 24, nil, plain, UInt64(plain.count), context, UInt64(context.count), nil, out.baseAddress!, keys[place])
        }
        return out
    }

    /// `nil` when no key opens it, for whatever reason: a stranger learns nothing from the difference.
    public func open(_ sealed: [UInt8], context: [UInt8]) -> [UInt8]? { openNamingKey(sealed, context: context)?.plain }

    /// As `open`, and says which key it was.
    /// - Parameter only: the one key to try, for a sender that has sent too much that did not open.
    public func openNamingKey(
        _ sealed: [UInt8], context: [UInt8], only: MeshKeyFingerprint? = nil
    ) -> (plain: [UInt8], key: MeshKeyFingerprint)? {
        guard sealed.count >= Self.overhead else { return nil }
        var plain = [UInt8](repeating: 0, count: sealed.count - Self.overhead)
        for (place, key) in keys.enumerated() where only == nil || fingerprints[place] == only {
            let opened = sealed.withUnsafeBufferPointer { sealed in
                plain.withUnsafeMutableBufferPointer { plain in
                    crypto_aead_xchacha20poly1305_ietf_decrypt(
                        plain.baseAddress, nil, nil, sealed.baseAddress! + 24, UInt64(sealed.count - 24), context, UInt64(context.count),
                        sealed.baseAddress!, key)
                }
            }
            if opened == 0 { return (plain, fingerprints[place]) }
        }
        return nil
    }
}
