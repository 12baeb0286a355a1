/// A signature file of minisign: four lines.
///
///     untrusted comment: …
///     base64 of: algorithm (2 bytes), key id (8), Ed25519 signature (64)
///     trusted comment: …
///     base64 of the Ed25519 signature over the first signature and the trusted comment
public struct MinisignSignature: Hashable, Sendable {
    public enum Algorithm: Hashable, Sendable {
        /// Ed25519 over the whole file (`Ed`), as minisign before 0.10 made them and `-l` still does.
        case legacy
        /// Ed25519 over the file's BLAKE2b-512 (`ED`).
        case prehashed

        var bytes: [UInt8] { self == .legacy ? Array("Ed".utf8) : Array("ED".utf8) }
    }

    /// Bytes of a signature file, comments included; a larger one is refused unread.
    public static let maxBytes = 4096
    /// Bytes of the comments that this program writes.
    public static let maxCommentBytes = 1000
    static let signatureBytes = 64

    public let algorithm: Algorithm
    public let keyID: MinisignKeyID
    /// Anybody may have changed it.
    public let untrustedComment: [UInt8]
    /// Signed too; says nothing before the signature is verified. Printable bytes and tabs, not necessarily UTF-8.
    public let trustedComment: [UInt8]
    let signature: [UInt8]
    let globalSignature: [UInt8]

    init(
        algorithm: Algorithm, keyID: MinisignKeyID, untrustedComment: [UInt8], trustedComment: [UInt8], signature: [UInt8],
        globalSignature: [UInt8]
    ) {
        (self.algorithm, self.keyID, self.signature, self.globalSignature) = (algorithm, keyID, signature, globalSignature)
        (self.untrustedComment, self.trustedComment) = (untrustedComment, trustedComment)
    }

    /// Reads the content of a `.minisig` file.
    ///
    /// - Throws: `MinisignError.malformed`.
    public init(_ bytes: [UInt8]) throws(MinisignError) {
        guard bytes.count <= Self.maxBytes else {
            throw MinisignError(.malformed, "larger than the \(Self.maxBytes) bytes that a signature may have")
        }
        let lines = MinisignText.lines(of: bytes)
        guard lines.count == 4 else { throw MinisignError(.malformed, "not a signature of minisign: it has \(lines.count) lines, not 4") }
        guard let untrusted = MinisignText.comment(lines[0], prefix: MinisignText.untrustedPrefix) else {
            throw MinisignError(.malformed, "not a signature of minisign: line 1 is no plain \"untrusted comment: \"")
        }
        guard let body = MinisignText.decode(lines[1], count: 2 + MinisignKeyID.byteCount + Self.signatureBytes) else {
            throw MinisignError(.malformed, "not a signature of minisign: line 2 is not base64 of 74 bytes")
        }
        guard let algorithm = [Algorithm.legacy, .prehashed].first(where: { $0.bytes == Array(body[..<2]) }) else {
            throw MinisignError(.malformed, "a signature of another algorithm than \"Ed\" and \"ED\"")
        }
        guard let trusted = MinisignText.comment(lines[2], prefix: MinisignText.trustedPrefix) else {
            throw MinisignError(.malformed, "not a signature of minisign: line 3 is no plain \"trusted comment: \"")
        }
        guard let global = MinisignText.decode(lines[3], count: Self.signatureBytes) else {
            throw MinisignError(.malformed, "not a signature of minisign: line 4 is not base64 of 64 bytes")
        }
        self.init(
            algorithm: algorithm, keyID: MinisignKeyID(body[2..<10]), untrustedComment: untrusted, trustedComment: trusted,
            signature: Array(body[10...]), globalSignature: global)
    }

    /// What a `.minisig` file holds.
    public var fileBytes: [UInt8] {
        MinisignText.untrustedPrefix + untrustedComment + Array("\n".utf8)
            + Array(MinisignText.encode(algorithm.bytes + keyID.bytes + signature).utf8) + Array("\n".utf8)
            + MinisignText.trustedPrefix + trustedComment + Array("\n".utf8)
            + Array(MinisignText.encode(globalSignature).utf8) + Array("\n".utf8)
    }
}
