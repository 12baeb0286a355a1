internal import CSodium
internal import ChunkModel
public import MeshKeys

/// The primitives that the handshake and the frames are built of. All calls of libsodium in this target stand in this file.
enum SessionCrypto {
    static let tagBytes = 16
    static let keyBytes = 32

    /// The X25519 public key of a 32-byte secret.
    static func publicKey(of secret: [UInt8]) -> [UInt8] {
        Sodium.ready
        var out = [UInt8](repeating: 0, count: keyBytes)
        _ = unsafe crypto_scalarmult_base(&out, secret)
        return out
    }

    /// `nil` when the other's key is of small order, which would make the result known to everybody.
    static func agree(secret: [UInt8], with other: [UInt8]) -> [UInt8]? {
        guard secret.count == keyBytes, other.count == keyBytes else { return nil }
        var out = [UInt8](repeating: 0, count: keyBytes)
        return unsafe crypto_scalarmult(&out, secret, other) == 0 ? out : nil
    }

    static func nonce(_ counter: UInt64) -> [UInt8] {
        (0..<12).map { $0 < 4 ? 0 : UInt8(truncatingIfNeeded: counter >> UInt64(8 * (11 - $0))) }
    }

    static func seal(_ plain: [UInt8], header: [UInt8], counter: UInt64, key: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: plain.count + tagBytes)
        unsafe crypto_aead_chacha20poly1305_ietf_encrypt(
            &out, nil, plain, UInt64(plain.count), header, UInt64(header.count), nil, nonce(counter), key)
        return out
    }

    static func open(_ sealed: [UInt8], header: [UInt8], counter: UInt64, key: [UInt8]) -> [UInt8]? {
        guard sealed.count >= tagBytes else { return nil }
        var out = [UInt8](repeating: 0, count: sealed.count - tagBytes)
        let opened = unsafe crypto_aead_chacha20poly1305_ietf_decrypt(
            &out, nil, nil, sealed, UInt64(sealed.count), header, UInt64(header.count), nonce(counter), key)
        return opened == 0 ? out : nil
    }
}

/// Seals or opens the frames of one direction; the nonce is the frame's number, so none can be dropped, repeated or reordered.
public struct SessionCipher: Sendable {
    private let key: [UInt8]
    private var counter: UInt64 = 0

    init(key: Bytes32) { self.key = key.bytes }

    /// Length and sealed bytes, ready for the stream. `plain` holds at most 65,519 bytes, which `PeerFrame` never exceeds.
    public mutating func seal(_ frame: PeerFrame) -> [UInt8] {
        let plain = frame.encoded
        let length = UInt16(clamping: plain.count + SessionCrypto.tagBytes)
        let header = [UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length)]
        defer { counter &+= 1 }
        return header + SessionCrypto.seal(plain, header: header, counter: counter, key: key)
    }

    /// What the next seal or opening takes: the nonce, which is used up, and the key.
    mutating func takeNonce() -> (nonce: [UInt8], key: [UInt8]) {
        defer { counter &+= 1 }
        return (SessionCrypto.nonce(counter), key)
    }

    mutating func open(_ sealed: [UInt8], header: [UInt8]) -> [UInt8]? {
        defer { counter &+= 1 }
        return SessionCrypto.open(sealed, header: header, counter: counter, key: key)
    }
}

/// Both directions of a session, with the peer that stands behind it.
public struct SessionKeys: Sendable {
    public var sending: SessionCipher
    public var receiving: SessionCipher
    public let peer: NodeID
    /// Bulk bytes travel sealed (`SealedBulk`), since one of the two nodes wants it.
    public let sealsBulk: Bool
    /// The mesh key that the handshake was made with.
    public let meshKey: MeshKeyFingerprint
}
