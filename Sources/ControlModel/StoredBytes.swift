/// Plain bytes as they lie in a file of this machine, and in its memory at this moment: they can be sent without a copy and without waiting.
public struct StoredBytes: Sendable {
    /// Open for reading as long as `owner` lives. Whoever sends from it names places: its own position is everybody's.
    public let descriptor: Int32
    /// Place in the file of the descriptor. Not empty; what lies there is never changed.
    public let range: Range<UInt64>
    public let owner: any Sendable

    public init(descriptor: Int32, range: Range<UInt64>, owner: any Sendable) {
        (self.descriptor, self.range, self.owner) = (descriptor, range, owner)
    }

    public var count: Int { Int(clamping: range.upperBound - range.lowerBound) }
}
