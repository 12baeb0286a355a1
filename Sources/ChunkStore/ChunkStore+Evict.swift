internal import ChunkModel
internal import Glibc
internal import Logging
internal import Synchronization

/// Making room: least recently used first, never what is pinned, the site's last copies only when nothing else is left.
///
/// A pass looks at the old end of a list only, in steps of `evictionBatch`; a last copy that it meets moves to a list of its
/// own, so that later passes don't meet it again until it was used.
extension ChunkStore {
    /// Asks the file system for its free space when the last answer is old.
    func lookAtFreeSpace(force: Bool = false) {
        let now = Posix.monotonicNanoseconds()
        let isDue = state.withLock { state in
            guard force || state.freeCheckedAt == 0 || now &- state.freeCheckedAt >= ChunkStoreLimits.freeSpaceInterval else {
                return false
            }
            state.freeCheckedAt = now
            return true
        }
        guard isDue, let space = files.space() else { return }
        state.withLock { state in
            state.freeBytes = space.free
            switch state.minFree {
            case .bytes(let bytes): state.floorBytes = ChunkStoreLimits.bounded(bytes)
            case .percent(let percent):
                state.floorBytes = percent > 0 ? Int64(Double(space.total) * min(100, percent) / 100) : 0
            }
        }
    }

    /// Evicts until an insert of `size` bytes fits into the quota and above the floor, and somewhat more.
    ///
    /// - Returns: `false` when it cannot fit.
    func makeRoom(for size: Int64) -> Bool {
        evicting.withLock { _ in
            lookAtFreeSpace()
            let (overQuota, belowFloor, extra) = state.withLock { state in
                (
                    state.table.heldBytes + state.reserved + size - state.maxBytes,
                    state.floorBytes - (state.freeBytes - state.reserved - size),
                    min(ChunkStoreLimits.hardEvictionBytes, state.highMark - state.lowMark)
                )
            }
            let need = max(overQuota, belowFloor)
            // Another thread has made the room meanwhile.
            guard need > 0 else { return true }
            return evict(need + extra) >= need
        }
    }

    /// Evicts for an insert that the device had no room for, whatever its free space says.
    ///
    /// - Returns: whether anything went.
    func evictAfterFullDisk(for size: Int64) -> Bool {
        evicting.withLock { _ in
            lookAtFreeSpace(force: true)
            return evict(size + min(ChunkStoreLimits.hardEvictionBytes, state.withLock { $0.highMark - $0.lowMark })) > 0
        }
    }

    /// Evicts down to the low mark when the high mark is passed, and up to the floor of free space.
    ///
    /// - Returns: bytes evicted.
    @discardableResult
    func evictToMarks(always: Bool = false) -> Int64 {
        evicting.withLock { _ in
            lookAtFreeSpace()
            let need = state.withLock { state -> Int64 in
                let isHigh = state.table.heldBytes > state.highMark || always
                return max(isHigh ? state.table.heldBytes - state.lowMark : 0, state.floorBytes - state.freeBytes)
            }
            return need > 0 ? evict(need) : 0
        }
    }

    /// Evicts at least `need` bytes, as far as there are evictable chunks. The caller holds `evicting`.
    private func evict(_ need: Int64) -> Int64 {
        var freed: Int64 = 0
        for isSpared in [false, true] {
            while freed < need {
                let candidates = state.withLock { $0.table.oldest(ChunkStoreLimits.evictionBatch, spared: isSpared) }
                if candidates.isEmpty { break }
                var victims: [ChunkID] = []
                var lastCopies: [ChunkID] = []
                var size: Int64 = 0
                for id in candidates where freed + size < need {
                    if !isSpared, isLastCopyAtSite(id) {
                        lastCopies.append(id)
                    } else {
                        victims.append(id)
                        size += Int64(self.size(of: id) ?? 0)
                    }
                }
                state.withLock { state in
                    for id in lastCopies { if let slot = state.table.heldSlot(of: id) { state.table.spare(slot) } }
                }
                let (count, bytes) = drop(victims, evenPinned: false)
                freed += bytes
                state.withLock { state in
                    state.evicted += count
                    state.evictedBytes += bytes
                }
            }
        }
        return freed
    }

    /// Takes chunks out of the index, tells so, and then removes their files.
    ///
    /// - Returns: how many were held, and their bytes.
    @discardableResult
    func drop(_ ids: [ChunkID], evenPinned: Bool) -> (count: Int, bytes: Int64) {
        var bytes: Int64 = 0
        let dropped = state.withLock { state in
            ids.filter { id in
                if !evenPinned, let slot = state.table.heldSlot(of: id), state.table[slot].pins > 0 { return false }
                guard let entry = state.table.drop(id) else { return false }
                bytes += Int64(entry.size)
                Self.note(id, in: &state)
                return true
            }
        }
        guard !dropped.isEmpty else { return (0, 0) }
        onRemoved(dropped)
        for id in dropped {
            shard(of: id).mutex.withLock { _ in
                // Stored again meanwhile: the file is the new one.
                if state.withLock({ $0.table.heldSlot(of: id) == nil }) { files.unlink(id) }
            }
        }
        state.withLock { $0.freeBytes = min(ChunkStoreLimits.mostBytes, $0.freeBytes + bytes) }
        return (dropped.count, bytes)
    }
}
