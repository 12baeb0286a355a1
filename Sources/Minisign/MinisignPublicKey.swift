internal import CSodium
internal import ChunkModel

/// Which key pair a signature was made with: eight random bytes, shown as minisign does.
public struct MinisignKeyID: Hashable, Sendable, CustomStringConvertible {
    static let byteCount = 8
    let bytes: [UInt8]

    init(_ bytes: some Collection<UInt8>) { self.bytes = Array(bytes) }

    /// Sixteen upper-case hex digits of the little-endian number.
    public var description: String { Hex.encode(bytes.reversed()).uppercased() }
}

/// A public key of minisign: an Ed25519 key and the id of its pair.
public struct MinisignPublicKey: Hashable, Sendable, CustomStringConvertible {
    /// A file that holds more is no public key.
    public static let maxFileBytes = 2048
    /// Characters of the key itself, in base64.
    public static let base64Count = 56
    static let keyBytes = 32
    static let algorithm = Array("Ed".utf8)

    public let id: MinisignKeyID
    /// A point of the prime-order group, so that no signature holds for more than one message.
    let key: [UInt8]

    init(id: MinisignKeyID, key: [UInt8]) { (self.id, self.key) = (id, key) }

    /// Reads the content of a `.pub` file: a comment line and the key, or the key alone.
    ///
    /// - Throws: `MinisignError.malformed`.
    public init(_ bytes: [UInt8]) throws(MinisignError) {
        guard bytes.count <= Self.maxFileBytes else {
            throw MinisignError(.malformed, "larger than the \(Self.maxFileBytes) bytes that a public key of minisign may have")
        }
        var lines = MinisignText.lines(of: bytes)
        if lines.count == 2, lines[0].starts(with: MinisignText.untrustedPrefix) { lines.removeFirst() }
        guard lines.count == 1, let raw = MinisignText.decode(lines[0], count: 2 + MinisignKeyID.byteCount + Self.keyBytes) else {
            throw MinisignError(.malformed, "not a public key of minisign (\(Self.base64Count) characters of base64 behind a comment line)")
        }
        guard Array(raw[..<2]) == Self.algorithm else {
            throw MinisignError(.malformed, "a public key of another algorithm than Ed25519 (\"Ed\")")
        }
        let key = Array(raw[10...])
        guard crypto_core_ed25519_is_valid_point(key) == 1 else { throw MinisignError(.malformed, "no usable Ed25519 key") }
        self.init(id: MinisignKeyID(raw[2..<10]), key: key)
    }

    /// The key alone, in base64: what `minisign -P` takes.
    public init(base64 text: String) throws(MinisignError) { try self.init(Array(text.utf8)) }

    public var description: String { MinisignText.encode(Self.algorithm + id.bytes + key) }

    /// What a `.pub` file holds.
    public var fileText: String { "untrusted comment: minisign public key \(id)\n\(self)\n" }
}
