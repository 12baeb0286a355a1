internal import ChunkModel
internal import Glibc

/// Keys, signatures and signed files on the disk. Calls block.
public enum MinisignFile {
    /// The suffix of a signature beside what it signs.
    public static let suffix = ".minisig"
    /// Bytes that are read and hashed at once.
    static let pieceBytes = 1 << 20

    /// The public key in a `.pub` file.
    ///
    /// - Throws: `MinisignError` that names the file.
    public static func publicKey(_ path: String) throws(MinisignError) -> MinisignPublicKey {
        let bytes = try read(path, maxBytes: MinisignPublicKey.maxFileBytes)
        do throws(MinisignError) { return try MinisignPublicKey(bytes) } catch { throw error.at(path) }
    }

    /// - Throws: `MinisignError` that names the file.
    public static func secretKey(_ path: String) throws(MinisignError) -> MinisignSecretKeyFile {
        let bytes = try read(path, maxBytes: MinisignSecretKeyFile.maxFileBytes)
        do throws(MinisignError) { return try MinisignSecretKeyFile(bytes) } catch { throw error.at(path) }
    }

    /// - Returns: `nil` when there is no such file.
    /// - Throws: `MinisignError` that names the file.
    public static func signature(_ path: String) throws(MinisignError) -> MinisignSignature? {
        var status = stat()
        if stat(path, &status) != 0, errno == ENOENT || errno == ENOTDIR { return nil }
        let bytes = try read(path, maxBytes: MinisignSignature.maxBytes)
        do throws(MinisignError) { return try MinisignSignature(bytes) } catch { throw error.at(path) }
    }

    /// Checks that `key` signed the file at `path`.
    ///
    /// - Throws: `MinisignError`: `.otherKey`, `.wrong`, `.unreadable`.
    public static func verify(_ path: String, _ signature: MinisignSignature, by key: MinisignPublicKey) throws(MinisignError) {
        let verification = try MinisignVerification(signature, by: key)
        try forEachPiece(of: path) { verification.update($0) }
        try verification.finish()
    }

    /// The BLAKE2b-512 that a signature is made of.
    ///
    /// - Throws: `MinisignError.unreadable`.
    public static func digest(of path: String) throws(MinisignError) -> [UInt8] {
        let hash = Blake2b512Stream()
        try forEachPiece(of: path) { hash.update($0) }
        return hash.finish()
    }

    // MARK: Reading

    /// One byte more than allowed is enough to see that a file is too large.
    private static func read(_ path: String, maxBytes: Int) throws(MinisignError) -> [UInt8] {
        var out: [UInt8] = []
        try forEachPiece(of: path, upTo: maxBytes + 1) { out += $0 }
        return out
    }

    private static func forEachPiece(
        of path: String, upTo limit: Int = .max, _ body: (UnsafeRawBufferPointer) -> Void
    ) throws(MinisignError) {
        // A pipe without a writer must not hold up its reader; for regular files the flag means nothing.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw unreadable(path, errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw MinisignError(.unreadable, "\(path): not a regular file")
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: min(limit, pieceBytes), alignment: 64)
        defer { buffer.deallocate() }
        var rest = limit
        while rest > 0 {
            let count = Glibc.read(descriptor, buffer.baseAddress!, min(rest, buffer.count))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw unreadable(path, errno) }
            guard count > 0 else { return }
            body(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            rest -= count
        }
    }

    private static func unreadable(_ path: String, _ code: Int32) -> MinisignError {
        MinisignError(.unreadable, "\(path): cannot be read: \(String(cString: strerror(code)))")
    }
}
