public import BlockCodec
public import ChunkModel

/// A piece of a file: where it is stored, and what it is decrypted with.
public struct BlockRef: Hashable, Sendable {
    public let id: ChunkID
    public let key: BlockKey
    public init(id: ChunkID, key: BlockKey) { (self.id, self.key) = (id, key) }
}

/// Sums over a whole flist.
public struct FlistTotals: Hashable, Sendable {
    /// Rows of regular files with a usable size, reachable or not.
    public var files: Int = 0
    /// Sum of their sizes; stops at the largest number instead of wrapping.
    public var bytes: UInt64 = 0
    /// Different chunk ids.
    public var uniqueChunks: Int = 0
    public init() {}
}
