@testable import Minisign

extension FuzzTarget {
    /// The encoding of a point of the group: what a public key must be.
    private static let key = MinisignPublicKey(
        id: MinisignKeyID(1...8 as ClosedRange<UInt8>), key: [0x58] + [UInt8](repeating: 0x66, count: 31))

    /// Public keys, secret keys and signatures as they lie in files, and a signature put to a file.
    static let minisign = FuzzTarget(
        name: "minisign", maxLength: 4_200,
        seeds: {
            let zeros = [UInt8](repeating: 0, count: 64)
            let signatures = [MinisignSignature.Algorithm.legacy, .prehashed].map { algorithm in
                MinisignSignature(
                    algorithm: algorithm, keyID: key.id, untrustedComment: Array("a".utf8), trustedComment: Array("b".utf8),
                    signature: zeros, globalSignature: zeros
                ).fileBytes
            }
            let secret = MinisignText.encode(Array("Ed\0\0B2".utf8) + [UInt8](repeating: 0, count: 152))
            return signatures + [Array(key.fileText.utf8), Array(key.description.utf8), Array("untrusted comment: x\n\(secret)\n".utf8)]
        },
        run: { bytes in
            if let key = try? MinisignPublicKey(bytes) {
                fuzzCheck((try? MinisignPublicKey(Array(key.fileText.utf8))) == key, "a key reads differently when it is written again")
            }
            // Scrypt takes a gigabyte, as it shall; only what lies open is unlocked here.
            if let file = try? MinisignSecretKeyFile(bytes), !file.isEncrypted { _ = try? file.unlock(password: []) }
            guard let signature = try? MinisignSignature(bytes) else { return }
            fuzzCheck((try? MinisignSignature(signature.fileBytes)) == signature, "a signature reads differently when it is written again")
            let verification = try? MinisignVerification(signature, by: key)
            [1, 2, 3].withUnsafeBytes { verification?.update($0) }
            fuzzCheck((try? verification?.finish()) == nil, "a signature of nobody is right")
        })
}
