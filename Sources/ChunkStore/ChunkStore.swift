public import ChunkModel
internal import Glibc
public import Logging
internal import SQLiteFile
internal import Synchronization

/// The chunks that this node holds, in a directory of its own: one file a chunk, an index in memory, a quota.
///
/// All calls are synchronous and may block on the disk, except `contains`, `held(among:)` and `statistics`: they belong on I/O
/// threads, never on an event loop or the cooperative pool. All may be called from any thread.
///
/// Only a verified `Chunk` gets in, and after an unclean stop no byte is served before it was hashed again.
public final class ChunkStore: Sendable {
    struct State: Sendable {
        var table = ChunkTable()
        /// Bytes of inserts that are being written.
        var reserved: Int64 = 0
        var isClosed = false
        /// Owners and the slots that they pin, each once, sorted.
        var pins: [FlistDigest: [ChunkTable.Slot]] = [:]
        /// Chunks whose row in the index is out of date; each held one once.
        var pending: [ChunkID] = []
        var rewriteIndex = false
        var maxBytes: Int64
        var minFree: ChunkStoreConfiguration.Floor
        var freeBytes = ChunkStoreLimits.mostBytes
        var floorBytes: Int64 = 0
        var freeCheckedAt: UInt64 = 0
        var evicted = 0
        var evictedBytes: Int64 = 0
        var torn = 0
        var vanished = 0
        var stored = 0
        var notStored = 0
        /// Chunks that the site lost, or that this node was to keep, since nothing else was left to evict.
        var evictedKept = 0
        /// Chunks that were withdrawn, and when, in nanoseconds of the monotonic clock.
        var leaving: [ChunkID: UInt64] = [:]
        /// Withdrawn ones that were used meanwhile, to be offered again.
        var returning: [ChunkID] = []
        /// When all that is kept for the site was looked at last.
        var reconsideredAt: UInt64 = 0
    }

    /// An `SQLiteDatabase` is for one thread at a time: the mutex around this sees to it.
    struct Index: @unchecked Sendable {
        var file: IndexFile?
        var warned = false
    }

    let directory: String
    let files: ChunkDirectory
    let lock: DirectoryLock
    let logger: Logger
    let custody: @Sendable (ChunkID, Bool) -> Custody
    let onOffer: @Sendable ([ChunkID]) -> Void
    let handOverNanoseconds: UInt64
    let onRemoved: @Sendable ([ChunkID]) -> Void
    let state: Mutex<State>
    let index = Mutex(Index())
    /// One thread evicts at a time; the others wait for the room that it makes.
    let evicting = Mutex(())
    /// Held while the file system is asked for its free space.
    let lookingAtSpace = Mutex(())
    /// Held while a chunk's file and its entry change together, by the first byte of the id.
    let shards: [Shard] = (0..<64).map { _ in Shard() }
    let keeper = Keeper()
    /// For the bytes of checks that nobody else sees.
    let scratch = ChunkBufferPool(keep: 4)

    final class Shard: Sendable {
        let mutex = Mutex(())
    }

    func shard(of id: ChunkID) -> Shard { shards[Int(id.firstByte) & 63] }

    /// Opens the cache directory, creating it where it is missing. After an orderly stop the index is read; else the
    /// directory is listed (names and sizes), and every chunk is hashed at its first use.
    ///
    /// - Throws: `ChunkStoreError.inUse` when another process has it, `.unusable` when it cannot be written.
    public init(_ configuration: ChunkStoreConfiguration, logger: Logger) throws {
        directory = configuration.directory
        self.logger = logger
        custody = configuration.custody
        onOffer = configuration.onOffer
        let (seconds, attoseconds) = configuration.handOver.components
        handOverNanoseconds = UInt64(clamping: seconds) &* 1_000_000_000 &+ UInt64(clamping: attoseconds / 1_000_000_000)
        onRemoved = configuration.onRemoved
        try Posix.makeDirectories(directory)
        lock = try DirectoryLock(directory: directory)
        files = try ChunkDirectory(path: directory)
        state = Mutex(State(maxBytes: ChunkStoreLimits.bounded(configuration.maxBytes), minFree: configuration.minFree))
        load()
        loadPins()
        keeper.start(every: ChunkStoreLimits.flushInterval) { [weak self] in
            guard let self else { return false }
            tidy()
            return true
        }
        if state.withLock({ $0.rewriteIndex }) { keeper.wake() }
    }

    /// Without `close()` the next start takes it for a crash.
    deinit { keeper.abandon() }

    /// Stops the cache in order: what is being stored is finished, the index written, everything flushed to the device, and the
    /// next start trusts the chunks. Later inserts are not stored, later reads find nothing. May take seconds on a slow disk.
    public func close() {
        let wasClosed = state.withLock { state in
            defer { state.isClosed = true }
            return state.isClosed
        }
        guard !wasClosed else { return }
        // Whoever is between renaming a file and noting it gets through.
        for shard in shards { shard.mutex.withLock { _ in } }
        keeper.stopAndJoin()
        let isWritten = flushIndex()
        index.withLock { $0.file = nil }
        if isWritten {
            files.sync()
            let (count, bytes) = state.withLock { ($0.table.heldCount, $0.table.heldBytes) }
            CleanMarker(count: count, bytes: bytes).write(in: files.root.fd)
        }
        lock.release()
    }

    /// Whether the chunk is held (and not known to be torn). A lock and a look-up: fit for any thread.
    public func contains(_ id: ChunkID) -> Bool {
        state.withLock { !$0.isClosed && $0.table.heldSlot(of: id) != nil }
    }

    /// Whether the chunk is held and others may count on it. A lock and a look-up: fit for any thread.
    public func isOffered(_ id: ChunkID) -> Bool {
        state.withLock { state in
            guard !state.isClosed, let slot = state.table.heldSlot(of: id) else { return false }
            return !state.table[slot].isLeaving
        }
    }

    /// For each id whether it is held and offered, in order, for the bitmap of an flist.
    public func held(among ids: [ChunkID]) -> [Bool] {
        var out: [Bool] = []
        out.reserveCapacity(ids.count)
        for start in stride(from: 0, to: ids.count, by: ChunkStoreLimits.walkBatch) {
            let batch = ids[start..<min(start + ChunkStoreLimits.walkBatch, ids.count)]
            state.withLock { state in
                for id in batch { out.append(!state.isClosed && state.table.heldSlot(of: id).map { !state.table[$0].isLeaving } ?? false) }
            }
        }
        return out
    }

    /// The stored size of a chunk that is held.
    public func size(of id: ChunkID) -> Int? {
        state.withLock { state in state.table.heldSlot(of: id).map { Int(state.table[$0].size) } }
    }

    /// Takes new bounds while running; a smaller quota is reached by the cache's own thread.
    public func setLimits(maxBytes: Int64, minFree: ChunkStoreConfiguration.Floor) {
        state.withLock { state in
            state.maxBytes = ChunkStoreLimits.bounded(maxBytes)
            state.minFree = minFree
            state.freeCheckedAt = 0
        }
        keeper.wake()
    }

    /// Notes that the index has to learn about `id`; to be called under the lock of `state`.
    static func note(_ id: ChunkID, in state: inout State) {
        if let slot = state.table.heldSlot(of: id) {
            guard !state.table[slot].flags.contains(.dirty) else { return }
            state.table.setDirty(slot, true)
        }
        guard !state.rewriteIndex else { return }
        state.pending.append(id)
        if state.pending.count > ChunkStoreLimits.maxPendingChanges {
            state.pending = []
            state.rewriteIndex = true
        }
    }

    /// What the cache's thread does at each turn.
    private func tidy() {
        if state.withLock({ $0.isClosed }) { return }
        offerReturning()
        endHandOvers()
        evictToMarks()
        flushIndex()
    }
}
