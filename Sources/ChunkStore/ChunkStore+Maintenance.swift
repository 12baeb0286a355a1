public import ChunkModel
internal import Synchronization

/// What a check of the whole cache found.
public struct VerifyReport: Equatable, Sendable {
    public var checked = 0
    public var bytes: Int64 = 0
    /// Chunks that were torn or gone; they are removed.
    public var bad: [ChunkID] = []
    /// The caller stopped it before its end.
    public var isCancelled = false

    public init(checked: Int = 0, bytes: Int64 = 0, bad: [ChunkID] = [], isCancelled: Bool = false) {
        (self.checked, self.bytes, self.bad, self.isCancelled) = (checked, bytes, bad, isCancelled)
    }
}

/// What a removal took away.
public struct RemovalReport: Equatable, Sendable {
    public var chunks = 0
    public var bytes: Int64 = 0

    public init(chunks: Int = 0, bytes: Int64 = 0) { (self.chunks, self.bytes) = (chunks, bytes) }
}

/// Figures of the cache, since the start where they are counts of events.
public struct ChunkStoreStatistics: Equatable, Sendable {
    public var chunks = 0
    public var bytes: Int64 = 0
    public var maxBytes: Int64 = 0
    /// Bytes of pinned chunks that are held.
    public var pinnedBytes: Int64 = 0
    /// Held, but not yet hashed since an unclean stop.
    public var unverifiedChunks = 0
    public var stored = 0
    public var notStored = 0
    public var evicted = 0
    public var evictedBytes: Int64 = 0
    /// Of those, chunks that the site lost or that this node was to keep for it, since nothing else was left to evict.
    public var evictedKept = 0
    /// Withdrawn, and not let go yet.
    public var leaving = 0
    /// Chunks whose bytes were wrong.
    public var torn = 0
    /// Chunks whose file was gone or had another size.
    public var vanished = 0
    /// Free bytes of the partition as last seen, and what the cache leaves free.
    public var freeBytes: Int64 = 0
    public var minFreeBytes: Int64 = 0
}

extension ChunkStore {
    public var statistics: ChunkStoreStatistics {
        state.withLock { state in
            ChunkStoreStatistics(
                chunks: state.table.heldCount, bytes: state.table.heldBytes, maxBytes: state.maxBytes,
                pinnedBytes: state.table.pinnedBytes, unverifiedChunks: state.table.unverifiedCount, stored: state.stored,
                notStored: state.notStored, evicted: state.evicted, evictedBytes: state.evictedBytes, evictedKept: state.evictedKept,
                leaving: state.leaving.count, torn: state.torn,
                vanished: state.vanished, freeBytes: state.freeBytes, minFreeBytes: state.floorBytes)
        }
    }

    /// Calls `body` with all chunks that are held, in batches of at most `walkBatch`, in no order. A chunk that is stored or removed
    /// meanwhile may be among them or not. `body` may use the cache.
    public func forEachBatch(_ body: ([ChunkID]) throws -> Void) rethrows { try forEachBatch(where: \.isHeld, body) }

    func forEachBatch(where isMeant: (ChunkTable.Entry) -> Bool, _ body: ([ChunkID]) throws -> Void) rethrows {
        var next = 0
        while true {
            let batch = state.withLock { state -> [ChunkID]? in
                guard next < state.table.slotLimit else { return nil }
                let end = min(next + ChunkStoreLimits.walkBatch, state.table.slotLimit)
                defer { next = end }
                return (next..<end).compactMap { state.table.entry(at: $0) }.filter(isMeant).map(\.id)
            }
            guard let batch else { return }
            if !batch.isEmpty { try body(batch) }
        }
    }

    /// All chunks that are held; 40 bytes each.
    public var allIDs: [ChunkID] {
        var out: [ChunkID] = []
        forEachBatch { out += $0 }
        return out
    }

    /// Reads and hashes every chunk; bad ones are removed. The order of use stays.
    ///
    /// - Parameter progress: called after each chunk with those done, all, and the bytes done; `false` stops.
    /// - Throws: `ChunkStoreError` when the process cannot open files.
    public func verify(progress: (_ done: Int, _ all: Int, _ bytes: Int64) -> Bool = { _, _, _ in true }) throws -> VerifyReport {
        var report = VerifyReport()
        let all = statistics.chunks
        struct Stopped: Error {}
        do {
            try forEachBatch { batch in
                for id in batch {
                    switch try inspect(id) {
                    case .whole(let chunk): report.bytes += Int64(chunk.byteCount)
                    case .bad: report.bad.append(id)
                    case .absent: continue
                    }
                    report.checked += 1
                    if !progress(report.checked, max(all, report.checked), report.bytes) { throw Stopped() }
                }
            }
        } catch is Stopped {
            report.isCancelled = true
        }
        return report
    }

    /// Evicts down to the low mark and up to the floor of free space, without waiting for the high mark.
    public func gc() -> RemovalReport {
        lookAtFreeSpace(force: true)
        let before = state.withLock { $0.evicted }
        let bytes = evictToMarks(isForced: true)
        return RemovalReport(chunks: state.withLock { $0.evicted } - before, bytes: bytes)
    }

    /// Removes chunks, pinned or not; pins stay for the day when they come back.
    @discardableResult
    public func remove(_ ids: [ChunkID]) -> RemovalReport {
        removeInBatches(ids, evenPinned: true)
    }

    /// Takes the owner's pins back and removes those of `ids` that no other owner pins.
    @discardableResult
    public func forget(owner: FlistDigest, _ ids: [ChunkID]) throws -> RemovalReport {
        try unpin(owner: owner)
        return removeInBatches(ids, evenPinned: false)
    }

    private func removeInBatches(_ ids: [ChunkID], evenPinned: Bool) -> RemovalReport {
        var report = RemovalReport()
        for start in stride(from: 0, to: ids.count, by: ChunkStoreLimits.evictionBatch) {
            let end = min(start + ChunkStoreLimits.evictionBatch, ids.count)
            let (count, bytes) = drop(Array(ids[start..<end]), evenPinned: evenPinned)
            report.chunks += count
            report.bytes += bytes
        }
        return report
    }
}
