/// Signatures over short texts that are held in memory.
extension MinisignSecretKey {
    /// - Throws: `MinisignError.malformed` for comments that no signature may have.
    public func sign(message: [UInt8], untrustedComment: String, trustedComment: String) throws(MinisignError) -> MinisignSignature {
        let hash = Blake2b512Stream()
        message.withUnsafeBytes { hash.update($0) }
        return try sign(digest: hash.finish(), untrustedComment: untrustedComment, trustedComment: trustedComment)
    }
}

extension MinisignSignature {
    /// Whether `key` signed exactly these bytes.
    public func isGenuine(for message: [UInt8], by key: MinisignPublicKey) -> Bool {
        guard let verification = try? MinisignVerification(self, by: key) else { return false }
        message.withUnsafeBytes { verification.update($0) }
        return (try? verification.finish()) != nil
    }
}
