public import ChunkModel
internal import Glibc
internal import Logging
internal import Synchronization

/// What became of a chunk that was to be stored.
public enum InsertOutcome: Equatable, Sendable {
    case stored
    case alreadyHeld
    /// The chunk can be served from memory, but the next reader has to fetch it again.
    case notStored(NotStoredReason)
}

/// Why a chunk was not stored.
public enum NotStoredReason: Equatable, Sendable, CustomStringConvertible {
    /// No room on the device or above the floor of free space, and nothing left to evict.
    case diskFull
    /// Everything that fills the quota is pinned, or the chunk alone is larger than the quota.
    case quotaPinned
    case readOnly
    case closed
    /// Another error of the device; the `errno`.
    case failed(code: Int32)

    public var description: String {
        switch self {
        case .diskFull: "no space on the device"
        case .quotaPinned: "the quota is full of pinned chunks"
        case .readOnly: "the cache directory is read-only"
        case .closed: "the cache is closed"
        case .failed(let code): Posix.text(code)
        }
    }

    init(code: Int32) {
        switch code {
        case ENOSPC, EDQUOT: self = .diskFull
        case EROFS, EACCES, EPERM: self = .readOnly
        default: self = .failed(code: code)
        }
    }
}

extension ChunkStore {
    private enum Admission {
        case held
        case admitted
        case wantsRoom(NotStoredReason)
        case refused(NotStoredReason)
    }

    /// Stores a chunk. Blocks for one file's write, and for evicting where the cache is full.
    ///
    /// A chunk that is held but was not yet hashed since an unclean stop is written again, which heals a torn one.
    public func insert(_ chunk: Chunk) -> InsertOutcome {
        let outcome = place(chunk)
        offerReturning()
        switch outcome {
        case .alreadyHeld: break
        case .stored: state.withLock { $0.stored += 1 }
        case .notStored(let reason):
            let isFirst = state.withLock { state in
                state.notStored += 1
                return state.notStored == 1
            }
            // The first is told to the user, the others are counted.
            let metadata: Logger.Metadata = ["directory": "\(directory)", "reason": "\(reason)"]
            if isFirst, reason != .closed { logger.warning("chunk served without storing it", metadata: metadata) }
        }
        return outcome
    }

    private func place(_ chunk: Chunk) -> InsertOutcome {
        let size = Int64(chunk.byteCount)
        var reason = NotStoredReason.diskFull
        for _ in 0..<ChunkStoreLimits.insertAttempts {
            switch admit(chunk.id, size) {
            case .held: return .alreadyHeld
            case .refused(let reason): return .notStored(reason)
            case .wantsRoom(let why):
                reason = why
                guard makeRoom(for: size) else { return .notStored(why) }
            case .admitted:
                let (file, code) = chunk.buffer.withBytes { files.writeTemporary($0) }
                let failure = file.map { publish($0, chunk.id, size) } ?? NotStoredReason(code: code)
                state.withLock { $0.reserved -= size }
                guard let failure else { return .stored }
                guard failure == .diskFull else { return .notStored(failure) }
                reason = .diskFull
                guard evictAfterFullDisk(for: size) else { return .notStored(.diskFull) }
            }
        }
        return .notStored(reason)
    }

    /// Reserves quota and free space for a chunk.
    private func admit(_ id: ChunkID, _ size: Int64) -> Admission {
        lookAtFreeSpace()
        let (admission, isAboveMark) = state.withLock { state -> (Admission, Bool) in
            guard !state.isClosed else { return (.refused(.closed), false) }
            if let slot = state.table.heldSlot(of: id), state.table[slot].isVerified {
                touch(slot, in: &state)
                return (.held, false)
            }
            guard size <= state.maxBytes else { return (.refused(.quotaPinned), false) }
            guard state.table.heldBytes + state.reserved + size <= state.maxBytes else { return (.wantsRoom(.quotaPinned), true) }
            guard state.freeBytes - state.reserved - size >= state.floorBytes else { return (.wantsRoom(.diskFull), true) }
            state.reserved += size
            return (.admitted, state.table.heldBytes + state.reserved > state.highMark)
        }
        if isAboveMark { keeper.wake() }
        return admission
    }

    /// Renames and notes the chunk.
    ///
    /// - Returns: why not, `nil` when it was stored.
    private func publish(_ file: ChunkDirectory.Temporary, _ id: ChunkID, _ size: Int64) -> NotStoredReason? {
        let (failure, isManyPending) = shard(of: id).mutex.withLock { _ -> (NotStoredReason?, Bool) in
            guard state.withLock({ !$0.isClosed }) else {
                files.discard(file)
                return (.closed, false)
            }
            let code = files.publish(file, as: id)
            guard code == 0 else { return (NotStoredReason(code: code), false) }
            let isManyPending = state.withLock { state in
                state.table.hold(id, size: UInt32(size), lastUse: Posix.secondsNow(), verified: true)
                state.freeBytes -= size
                state.leaving[id] = nil
                Self.note(id, in: &state)
                return state.pending.count == ChunkStoreLimits.flushEarlyAt
            }
            return (nil, isManyPending)
        }
        if isManyPending { keeper.wake() }
        return failure
    }

    /// Notes a use; written to the index only when it is much later than the last one.
    func touch(_ slot: ChunkTable.Slot, in state: inout State) {
        let now = Posix.secondsNow()
        let entry = state.table[slot]
        if entry.isLeaving {
            state.table.setLeaving(slot, false)
            state.leaving[entry.id] = nil
            state.returning.append(entry.id)
        }
        state.table.touch(slot, now: now)
        if now > entry.lastUse, now - entry.lastUse >= ChunkStoreLimits.useGranularity { Self.note(entry.id, in: &state) }
    }
}

extension ChunkStore.State {
    var highMark: Int64 { Int64(Double(maxBytes) * ChunkStoreLimits.highMark) }
    var lowMark: Int64 { Int64(Double(maxBytes) * ChunkStoreLimits.lowMark) }
}
