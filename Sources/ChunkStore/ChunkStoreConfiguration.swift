public import ChunkModel

/// How large the cache may get, and whom it asks and tells.
public struct ChunkStoreConfiguration: Sendable {
    /// Space on the partition that the cache leaves to others.
    public enum Floor: Sendable, Equatable {
        case bytes(Int64)
        /// Of the size of the partition, 0…100.
        case percent(Double)
    }

    /// Created where it is missing.
    public var directory: String
    /// Quota for the stored bytes of chunks; flist files, the index and pins are not counted.
    public var maxBytes: Int64
    public var minFree: Floor
    /// What the site has of a chunk; `isLeaving` when this cache has withdrawn it. Called on the thread that evicts, without a lock of the
    /// cache, and answers at once. It may call `contains`, not `insert`.
    public var custody: @Sendable (ChunkID, _ isLeaving: Bool) -> Custody
    /// Chunks that are offered to others no longer, or again: ask `isOffered` of each. They are held all the same.
    public var onOffer: @Sendable ([ChunkID]) -> Void
    /// Between withdrawing a chunk and letting it go: longer than its withdrawal takes to reach every node of the site.
    public var handOver: Duration
    /// Chunks that the cache holds no longer (evicted, removed, torn, vanished), called when `contains` says so already and
    /// before the files go. One that was stored again meanwhile may be among them: ask `contains` before announcing.
    /// It may call `contains`, not `insert`.
    public var onRemoved: @Sendable ([ChunkID]) -> Void

    public init(
        directory: String, maxBytes: Int64, minFree: Floor = .percent(5),
        custody: @escaping @Sendable (ChunkID, Bool) -> Custody = { _, _ in .redundant },
        onRemoved: @escaping @Sendable ([ChunkID]) -> Void = { _ in }, onOffer: @escaping @Sendable ([ChunkID]) -> Void = { _ in },
        handOver: Duration = ChunkStoreLimits.handOver
    ) {
        self.directory = directory
        self.maxBytes = maxBytes
        self.minFree = minFree
        self.custody = custody
        self.onRemoved = onRemoved
        self.onOffer = onOffer
        self.handOver = handOver
    }
}

/// Bounds of the cache.
public enum ChunkStoreLimits {
    /// Part of the quota from which the cache's thread evicts. The quota itself is never exceeded; the 5 % between are room
    /// for what arrives while the thread is at work. Higher than the 80 % that others use, since this quota is the
    /// cache's own share and not the partition, which the floor of free space protects.
    public static let highMark = 0.95
    /// Part of the quota down to which it evicts: a tenth of the cache goes in one pass, so that passes are rare and most of
    /// what is warm stays.
    public static let lowMark = 0.85
    /// Chunks that leave in one step of an eviction; the hooks are called once for each step.
    public static let evictionBatch = 256
    /// Between withdrawing a chunk and letting it go. Gossip tells a change to a thousand nodes in about two seconds.
    public static let handOver: Duration = .seconds(4)
    /// Chunks withdrawn at a time; while there are as many, no further one is.
    public static let maxLeaving = 16_384
    /// Chunks kept for the site that one pass looks through for those that need not be kept any more.
    public static let keptScan = 1024
    /// Nanoseconds between two looks at all that is kept for the site, for what need not be kept any more.
    public static let reconsiderInterval: UInt64 = 10_000_000_000
    /// Bytes that an insert evicts beyond its own need when it finds the cache full, at most the distance of the marks.
    public static let hardEvictionBytes: Int64 = 16 << 20
    /// How often an insert evicts and tries again before it gives up storing.
    public static let insertAttempts = 4
    /// Nanoseconds between two looks at the free space of the partition; in between it is reckoned from what was written.
    public static let freeSpaceInterval: UInt64 = 1_000_000_000
    /// Nanoseconds between two writes of the index.
    public static let flushInterval: UInt64 = 2_000_000_000
    /// Changes that make the index be written before its time.
    public static let flushEarlyAt = 8192
    /// Changes that are kept for the index; beyond, they are forgotten and the whole index is written anew.
    public static let maxPendingChanges = 65_536
    /// Seconds by which a use must be later than the last one to be written to the index.
    public static let useGranularity: UInt32 = 60
    /// Slots that are looked at under one lock by walks over all chunks.
    public static let walkBatch = 4096
    /// Pinned flists; a further one is refused.
    public static let maxPinOwners = 10_000
    /// Chunks that one owner may pin (8 TiB of full blocks); more are refused.
    public static let maxPinnedIDs = 16 << 20
    /// Sizes beyond this one (an exbibyte) are taken for it, so that sums of them don't overflow.
    static let mostBytes: Int64 = 1 << 60

    static func bounded(_ bytes: Int64) -> Int64 { min(mostBytes, max(0, bytes)) }
}
