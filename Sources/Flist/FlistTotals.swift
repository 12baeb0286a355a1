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
