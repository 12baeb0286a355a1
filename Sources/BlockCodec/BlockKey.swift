public import ChunkModel

/// What a block is decrypted with: the BLAKE2b of its plain bytes (FORMATS.md §1.3).
///
/// Whoever holds it can read the content, so it is kept out of messages and logs: `description` shows nothing of it.
public struct BlockKey: Hashable, Sendable, CustomStringConvertible {
    /// How long the keys of a format are.
    public enum Length: UInt8, Sendable {
        case full = 32
    }

    let value: Bytes32
    public let length: Length

    /// `nil` unless `bytes` holds 32 bytes.
    public init?(_ bytes: some Collection<UInt8>) {
        guard let value = Bytes32(bytes) else { return nil }
        self.init(value)
    }

    /// A key of an `.fl`.
    public init(_ value: Bytes32) {
        self.value = value
        length = .full
    }

    /// The key that `plain` has.
    public init(ofPlain plain: UnsafeRawBufferPointer) { self.init(Blake2b.hash256(plain)) }

    public var bytes: [UInt8] { Array(value.bytes.prefix(Int(length.rawValue))) }
    public var description: String { "block key (\(length.rawValue) bytes)" }
}
