internal import CSodium
internal import ChunkModel

/// The Ed25519 key pair that a node keeps in its state directory and proves itself with.
public struct NodeIdentity: Sendable {
    public let id: NodeID
    /// 64 bytes as libsodium keeps them: seed and public key.
    private let secret: [UInt8]

    /// 32 random bytes make a new identity; the same seed gives the same node again.
    public init?(seed: [UInt8]) {
        Sodium.ready
        guard seed.count == Int(crypto_sign_SEEDBYTES) else { return nil }
        var publicKey = [UInt8](repeating: 0, count: Int(crypto_sign_PUBLICKEYBYTES))
        var secret = [UInt8](repeating: 0, count: Int(crypto_sign_SECRETKEYBYTES))
        crypto_sign_seed_keypair(&publicKey, &secret, seed)
        id = NodeID(Bytes32(publicKey)!)
        self.secret = secret
    }

    public static func random() -> NodeIdentity { NodeIdentity(seed: Sodium.randomBytes(Int(crypto_sign_SEEDBYTES)))! }

    /// A detached signature of 64 bytes.
    public func sign(_ message: [UInt8]) -> [UInt8] {
        var signature = [UInt8](repeating: 0, count: Int(crypto_sign_BYTES))
        crypto_sign_detached(&signature, nil, message, UInt64(message.count), secret)
        return signature
    }

    public static func verify(_ signature: [UInt8], of message: [UInt8], by id: NodeID) -> Bool {
        Sodium.ready
        guard signature.count == Int(crypto_sign_BYTES) else { return false }
        return crypto_sign_verify_detached(signature, message, UInt64(message.count), id.bytes) == 0
    }
}
