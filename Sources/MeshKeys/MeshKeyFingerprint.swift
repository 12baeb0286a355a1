internal import ChunkModel

/// Tells mesh keys apart without giving them away: the first eight bytes of a BLAKE2b-256 over the key, as sixteen hex digits.
public struct MeshKeyFingerprint: Hashable, Sendable, CustomStringConvertible {
    public static let byteCount = 8
    private let value: UInt64

    init(ofKey key: [UInt8]) { value = Blake2b.hash256(Array("chunkmesh mesh key".utf8) + [0] + key).prefix64 }

    /// `nil` unless there are eight bytes.
    public init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        value = bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// `nil` unless `hex` is sixteen hex digits.
    public init?(hex: String) {
        guard hex.utf8.count == 2 * Self.byteCount, hex.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
            let value = UInt64(hex, radix: 16)
        else { return nil }
        self.value = value
    }

    public var bytes: [UInt8] { (0..<8).reversed().map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) } }
    public var description: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
