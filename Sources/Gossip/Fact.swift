/// Names one fact that a node publishes about itself. What kinds mean is the caller's business.
public struct FactKey: Hashable, Comparable, Sendable {
    public let kind: UInt8
    public let id: [UInt8]

    /// `nil` when `id` is longer than `GossipLimits.factIDBytes`.
    public init?(kind: UInt8, id: [UInt8] = []) {
        guard id.count <= GossipLimits.factIDBytes else { return nil }
        self.kind = kind
        self.id = id
    }

    public static func < (a: FactKey, b: FactKey) -> Bool {
        a.kind != b.kind ? a.kind < b.kind : a.id.lexicographicallyPrecedes(b.id)
    }
}

/// The changes that nodes tell each other, as they stand in deltas and in whole records.
enum ChangeCode {
    static let setFact: UInt8 = 1
    static let removeFact: UInt8 = 2
    static let publish: UInt8 = 3
    static let withdraw: UInt8 = 4
    static let setRuns: UInt8 = 5
    static let clearRuns: UInt8 = 6
    static let setAll: UInt8 = 7
    static let clearAll: UInt8 = 8
    static let claim: UInt8 = 9
    static let release: UInt8 = 10
    static let bitmap: UInt8 = 11
}
