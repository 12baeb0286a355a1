/// The chunk ids that a store is for: those whose first bytes lie between two bounds, both inclusive.
///
/// `.fl` compares one byte (FORMATS.md §1.5), router.yaml of legacy flists as many as it likes (§2.5).
public struct ChunkRange: Hashable, Sendable, CustomStringConvertible {
    private let lower: Bytes32
    private let upper: Bytes32
    /// How many leading bytes of an id are compared: 1 to 32.
    public let byteCount: Int

    /// Every id.
    public static let all = ChunkRange(firstBytes: 0...255)

    public init(firstBytes: ClosedRange<UInt8>) { self.init(uncheckedFrom: [firstBytes.lowerBound], through: [firstBytes.upperBound]) }

    /// `nil` unless both bounds have the same length of 1 to 32 bytes and stand in order.
    public init?(from lower: [UInt8], through upper: [UInt8]) {
        guard lower.count == upper.count, (1...32).contains(lower.count), !upper.lexicographicallyPrecedes(lower) else { return nil }
        self.init(uncheckedFrom: lower, through: upper)
    }

    private init(uncheckedFrom lower: [UInt8], through upper: [UInt8]) {
        byteCount = lower.count
        self.lower = Bytes32(padding: lower)
        self.upper = Bytes32(padding: upper + [UInt8](repeating: 0xff, count: 32 - upper.count))
    }

    public func contains(_ id: ChunkID) -> Bool { id.isBetween(lower, and: upper) }

    public var lowerBytes: [UInt8] { Array(lower.bytes.prefix(byteCount)) }
    public var upperBytes: [UInt8] { Array(upper.bytes.prefix(byteCount)) }
    /// The smallest range of first bytes that holds it: what `.fl` can record.
    public var firstBytes: ClosedRange<UInt8> { lower.firstByte...upper.firstByte }
    /// `00-ff`.
    public var description: String { "\(Hex.encode(lowerBytes))-\(Hex.encode(upperBytes))" }
}

/// A store, and the chunks that it is for (FORMATS.md §1.5, §2.5).
public struct Route: Hashable, Sendable {
    public var range: ChunkRange
    public var url: String
    /// Routes of a lower tier are asked first; among those of one tier any order will do. `.fl` knows one tier only, router.yaml's
    /// `lookup` makes several.
    public var tier: Int
    /// Chunks that were found elsewhere are written there (`cache` pools of router.yaml); never read unless another route says so.
    public var isCache: Bool

    public init(range: ChunkRange = .all, url: String, tier: Int = 0, isCache: Bool = false) {
        (self.range, self.url, self.tier, self.isCache) = (range, url, tier, isCache)
    }
}
