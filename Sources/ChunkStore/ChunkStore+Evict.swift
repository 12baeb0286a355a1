internal import ChunkModel
internal import Glibc
internal import Logging
internal import Synchronization

/// Making room: least recently used first, never what is pinned; what this node keeps for the site only when nothing else is left, and
/// the site's last copies at the very end, before failing to store.
///
/// Who holds what is known from gossip, which is late. Two nodes that hold the last copies of a chunk must not both let go, each believing in
/// the other: the holders are ranked in the same way everywhere, and the first of them keep it (`Custody`). The next in the ranking, whose
/// belief in them may be out of date, withdraws its announcement first, looks again when that must have reached everybody
/// (`handOver`), and only then lets go, or announces it again. Under pressure faster than that, what was withdrawn goes at once, and so does what
/// is kept while others hold it: both only where the alternative is another last copy.
///
/// A pass looks at the old end of a list only, in steps of `evictionBatch`; what it may not take moves to a list of its own, so that later
/// passes don't meet it again until it was used.
extension ChunkStore {
    /// Asks the file system for its free space when the last answer is old. Who comes while another asks waits for the answer: until the first
    /// one there is no floor to keep.
    func lookAtFreeSpace(force: Bool = false) {
        func isDue() -> Bool {
            let now = Posix.monotonicNanoseconds()
            return state.withLock { $0.freeCheckedAt == 0 || now &- $0.freeCheckedAt >= ChunkStoreLimits.freeSpaceInterval }
        }
        guard force || isDue() else { return }
        lookingAtSpace.withLock { _ in
            guard force || isDue() else { return }
            let space = files.space()
            state.withLock { state in
                state.freeCheckedAt = max(1, Posix.monotonicNanoseconds())
                guard let space else { return }
                state.freeBytes = space.free
                switch state.minFree {
                case .bytes(let bytes): state.floorBytes = ChunkStoreLimits.bounded(bytes)
                case .percent(let percent):
                    state.floorBytes = percent > 0 ? Int64(Double(space.total) * min(100, percent) / 100) : 0
                }
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
    /// - Parameter isForced: down to the low mark in any case, and even what is kept for the site. Else that goes for the floor's sake only.
    /// - Returns: bytes evicted.
    @discardableResult
    func evictToMarks(isForced: Bool = false) -> Int64 {
        evicting.withLock { _ in
            lookAtFreeSpace()
            let (overMark, belowFloor) = state.withLock { state in
                let isHigh = state.table.heldBytes > state.highMark || isForced
                return (isHigh ? state.table.heldBytes - state.lowMark : 0, state.floorBytes - state.freeBytes)
            }
            var freed: Int64 = 0
            if belowFloor > 0 { freed += evict(belowFloor) }
            // A smaller quota is reached whatever it takes.
            let overQuota = state.withLock { $0.table.heldBytes + $0.reserved - $0.maxBytes }
            if overQuota > 0 { freed += evict(overQuota) }
            if overMark > freed { freed += isForced ? evict(overMark - freed) : evictFreely(overMark - freed) }
            if overMark > freed, !isForced { reconsiderKept() }
            return freed
        }
    }

    /// Evicts at least `need` bytes, as far as there are evictable chunks. The caller holds `evicting`.
    private func evict(_ need: Int64) -> Int64 {
        var freed = evictFreely(need, handingOver: false)
        while freed < need {
            let candidates = state.withLock { $0.table.oldest(ChunkStoreLimits.keptScan, in: .spared) }
            if candidates.isEmpty { break }
            // What is on its way out before what is kept.
            let (leaving, kept) = state.withLock { state in
                (candidates.filter { state.leaving[$0] != nil }, candidates.filter { state.leaving[$0] == nil })
            }
            freed += takeKept(leaving + kept, need - freed)
        }
        while freed < need {
            let candidates = state.withLock { $0.table.oldest(ChunkStoreLimits.keptScan, in: .last) }
            if candidates.isEmpty { break }
            // Others may have got it since it was looked at.
            let held = candidates.filter { custody($0, false) != .last }
            freed += take(held, need - freed, isKept: true)
            if freed < need { freed += take(candidates, need - freed, isKept: true) }
        }
        return freed
    }

    /// Evicts what others hold and keep. What may go but for late news is withdrawn, and goes later.
    private func evictFreely(_ need: Int64, handingOver: Bool = true) -> Int64 {
        // What is being handed over already counts, or every pass would hand over as much again.
        var promised =
            handingOver ? state.withLock { state in state.leaving.keys.reduce(Int64(0)) { $0 + Self.bytes(of: $1, in: state) } } : 0
        var freed: Int64 = 0
        while freed + promised < need {
            let candidates = state.withLock { $0.table.oldest(ChunkStoreLimits.evictionBatch, in: .ordinary) }
            if candidates.isEmpty { break }
            var victims: [ChunkID] = []
            var withdrawn: [ChunkID] = []
            var size: Int64 = 0
            for id in candidates where freed + promised + size < need {
                let custody = custody(id, false)
                if custody == .redundant {
                    victims.append(id)
                    size += Int64(self.size(of: id) ?? 0)
                    continue
                }
                let isWithdrawn = state.withLock { state -> Bool in
                    guard let slot = state.table.heldSlot(of: id) else { return false }
                    state.table.move(slot, to: custody == .last ? .last : .spared)
                    guard custody == .shared, handingOver, state.leaving.count < ChunkStoreLimits.maxLeaving else { return false }
                    state.table.setLeaving(slot, true)
                    state.leaving[id] = Posix.monotonicNanoseconds()
                    return true
                }
                if isWithdrawn {
                    withdrawn.append(id)
                    promised += Int64(self.size(of: id) ?? 0)
                }
            }
            if !withdrawn.isEmpty { onOffer(withdrawn) }
            freed += take(victims, .max, isKept: false)
        }
        return freed
    }

    /// Of chunks that are kept for the site, those that others hold; the site's last copies move on.
    private func takeKept(_ ids: [ChunkID], _ need: Int64) -> Int64 {
        var victims: [ChunkID] = []
        var size: Int64 = 0
        for id in ids where size < need {
            let isLeaving = state.withLock { $0.leaving[id] != nil }
            if custody(id, isLeaving) == .last {
                putBack([id], to: .last)
            } else {
                victims.append(id)
                size += Int64(self.size(of: id) ?? 0)
            }
        }
        return take(victims, .max, isKept: true)
    }

    /// Drops chunks until `need` bytes are freed.
    private func take(_ ids: [ChunkID], _ need: Int64, isKept: Bool) -> Int64 {
        var size: Int64 = 0
        let victims = ids.prefix { id in
            defer { size += Int64(self.size(of: id) ?? 0) }
            return size < need
        }
        let (count, bytes) = drop(Array(victims), evenPinned: false)
        state.withLock { state in
            state.evicted += count
            state.evictedBytes += bytes
            if isKept { state.evictedKept += count }
        }
        return bytes
    }

    /// Lets go of what was withdrawn long enough ago and others still hold; the rest stays, and is offered again.
    func endHandOvers() {
        let now = Posix.monotonicNanoseconds()
        let due = state.withLock { state in
            state.leaving.filter { now &- $0.value >= handOverNanoseconds }.map(\.key)
        }
        guard !due.isEmpty else { return }
        evicting.withLock { _ in
            let (still, pinned) = state.withLock { state -> ([ChunkID], [ChunkID]) in
                for id in due where state.table.heldSlot(of: id) == nil { state.leaving[id] = nil }
                let held = due.filter { state.leaving[$0] != nil }
                return (
                    held.filter { state.table.heldSlot(of: $0).map { state.table[$0].isEvictable } ?? false },
                    held.filter { state.table.heldSlot(of: $0).map { !state.table[$0].isEvictable } ?? false }
                )
            }
            putBack(pinned, to: .ordinary)
            let judged = still.map { ($0, custody($0, true)) }
            _ = take(judged.filter { $0.1 == .redundant }.map(\.0), .max, isKept: false)
            putBack(judged.filter { $0.1 == .last }.map(\.0), to: .last)
            putBack(judged.filter { $0.1 != .last && $0.1 != .redundant }.map(\.0), to: .spared)
        }
    }

    /// Keeps chunks after all, and offers those that were withdrawn.
    private func putBack(_ ids: [ChunkID], to place: ChunkTable.Place) {
        let back = state.withLock { state in
            ids.filter { id in
                guard let slot = state.table.heldSlot(of: id) else { return false }
                state.table.move(slot, to: place)
                state.table.setLeaving(slot, false)
                return state.leaving.removeValue(forKey: id) != nil
            }
        }
        if !back.isEmpty { onOffer(back) }
    }

    /// What is kept for the site may have got other holders meanwhile: such chunks go back to the ordinary ones. Looks at all that are kept,
    /// seldom.
    private func reconsiderKept() {
        let now = Posix.monotonicNanoseconds()
        let isDue = state.withLock { state in
            guard now &- state.reconsideredAt >= ChunkStoreLimits.reconsiderInterval else { return false }
            state.reconsideredAt = now
            return true
        }
        guard isDue else { return }
        forEachBatch(where: { $0.isKeptForSite && !$0.isLeaving }) { batch in
            let (free, others) = batch.reduce(into: ([ChunkID](), [ChunkID]())) { lists, id in
                switch custody(id, false) {
                case .redundant, .shared: lists.0.append(id)
                case .kept: lists.1.append(id)
                case .last: break
                }
            }
            putBack(free, to: .ordinary)
            putBack(others, to: .spared)
        }
    }

    /// Offers what was used while it was on its way out.
    func offerReturning() {
        let back = state.withLock { state -> [ChunkID] in
            guard !state.returning.isEmpty else { return [] }
            defer { state.returning = [] }
            return state.returning
        }
        if !back.isEmpty { onOffer(back) }
    }

    private static func bytes(of id: ChunkID, in state: State) -> Int64 {
        state.table.heldSlot(of: id).map { Int64(state.table[$0].size) } ?? 0
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
                state.leaving[id] = nil
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
