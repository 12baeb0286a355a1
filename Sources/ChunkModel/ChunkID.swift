/// The name of a chunk: the BLAKE2b of its stored bytes, 32 bytes long for `.fl` and 16 for legacy `.flist`.
///
/// Anyone can check a chunk against its id without holding a key (FORMATS.md §1.3, §2.4).
public struct ChunkID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The kinds of id that exist in the field.
    public enum Length: UInt8, Sendable {
        case legacy = 16
        case full = 32
    }

    private let value: Bytes32
    public let length: Length

    /// `nil` unless `bytes` holds 16 or 32 bytes.
    public init?(_ bytes: some Collection<UInt8>) {
        guard let count = UInt8(exactly: bytes.count), let length = Length(rawValue: count) else { return nil }
        self.length = length
        value = Bytes32(padding: bytes)
    }

    /// `nil` unless `hex` holds 32 or 64 hex digits.
    public init?(hex: some StringProtocol) {
        guard let bytes = Hex.decode(hex) else { return nil }
        self.init(bytes)
    }

    /// The id that `stored` bytes have.
    public init(ofStored stored: UnsafeRawBufferPointer, length: Length = .full) {
        self.length = length
        value = length == .full ? Blake2b.hash256(stored) : Blake2b.hash128(stored)
    }

    public var bytes: [UInt8] { Array(value.bytes.prefix(Int(length.rawValue))) }
    public var hex: String { Hex.encode(bytes) }
    public var description: String { hex }
    /// What routes are matched with (FORMATS.md §1.5).
    public var firstByte: UInt8 { value.firstByte }
    /// The first eight bytes as a number, evenly spread.
    public var prefix64: UInt64 { value.prefix64 }

    /// Whether the id lies between two numbers of 32 bytes, both inclusive.
    func isBetween(_ lower: Bytes32, and upper: Bytes32) -> Bool { lower <= value && value <= upper }

    public static func < (a: ChunkID, b: ChunkID) -> Bool {
        a.value != b.value ? a.value < b.value : a.length.rawValue < b.length.rawValue
    }
}
