public import ChunkModel

/// What a block is decrypted with: the BLAKE2b of its plain bytes, 32 bytes long for `.fl` and 16 for legacy flists
/// (FORMATS.md §1.3, §2.4).
///
/// Whoever holds it can read the content, so it is kept out of messages and logs: `description` shows nothing of it.
public struct BlockKey: Hashable, Sendable, CustomStringConvertible {
    let value: Bytes32
    public let length: ChunkID.Length

    /// `nil` unless `bytes` holds 16 or 32 bytes.
    public init?(_ bytes: some Collection<UInt8>) {
        guard let count = UInt8(exactly: bytes.count), let length = ChunkID.Length(rawValue: count) else { return nil }
        self.length = length
        value = Bytes32(padding: bytes)
    }

    /// A key of an `.fl`.
    public init(_ value: Bytes32) {
        self.value = value
        length = .full
    }

    /// The key that `plain` has.
    public init(ofPlain plain: UnsafeRawBufferPointer, length: ChunkID.Length = .full) {
        self.length = length
        value = length == .full ? Blake2b.hash256(plain) : Blake2b.hash128(plain)
    }

    public var bytes: [UInt8] { Array(value.bytes.prefix(Int(length.rawValue))) }
    public var description: String { "block key (\(length.rawValue) bytes)" }
}
