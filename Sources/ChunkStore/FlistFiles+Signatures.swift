public import ChunkModel
internal import Glibc
internal import LocalFiles

/// The signatures of flists, `flists/HEX.minisig` beside `flists/HEX.fl`.
extension FlistFiles {
    /// Bytes of a signature; a longer one is not kept, and not read.
    public static let maxSignatureBytes = 4096
    private static let signatureSuffix = ".minisig"

    /// The signature that is kept for the flist; `nil` when there is none. What it says is for the caller to check.
    public func signature(of digest: FlistDigest) -> [UInt8]? {
        let path = signatureName(of: digest)
        guard let file = try? Posix.handle(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), let status = Posix.status(of: file.fd),
            Posix.isRegular(status), (1...Self.maxSignatureBytes).contains(Int(status.st_size))
        else { return nil }
        return withUnsafeTemporaryAllocation(byteCount: Self.maxSignatureBytes, alignment: 8) { buffer in
            let count = FileBytes.read(into: buffer, from: file.fd, at: 0)
            return count > 0 ? Array(buffer[..<count]) : nil
        }
    }

    /// Keeps the signature, in place of the one before.
    ///
    /// - Throws: `ChunkStoreError`: `.tooLarge`, `.failed`.
    public func setSignature(_ bytes: [UInt8], of digest: FlistDigest) throws {
        guard bytes.count <= Self.maxSignatureBytes else {
            throw ChunkStoreError.tooLarge(what: "signature of flist \(digest)", limit: Int64(Self.maxSignatureBytes))
        }
        let file = try TemporaryFlist(in: self)
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        _ = try file.publish(as: signatureName(of: digest))
    }

    public func removeSignature(of digest: FlistDigest) { unlink(signatureName(of: digest)) }

    private func signatureName(of digest: FlistDigest) -> String { directory + "/" + digest.hex + Self.signatureSuffix }
}
