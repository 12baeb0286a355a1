internal import Synchronization

/// Reads that wait for content: whoever takes one out of here answers it, so that each is answered once, be it by its content, by its
/// deadline, or since nobody wants it any more.
final class PendingReads: Sendable {
    /// Interrupts that came before what they interrupt, as they may: the oldest is forgotten.
    private static let maxEarly = 64

    private struct Entry {
        let task: Task<Void, Never>
        let deadline: ContinuousClock.Instant
        let device: FuseDevice
    }
    private struct State {
        var entries: [UInt64: Entry] = [:]
        var early: [UInt64] = []
    }
    private let state = Mutex(State())

    struct Taken: Sendable {
        let unique: UInt64
        let device: FuseDevice
    }

    var count: Int { state.withLock { $0.entries.count } }

    /// Starts `work` for the request `unique`.
    ///
    /// - Returns: `false` when it was interrupted before: then nothing is started.
    func start(
        _ unique: UInt64, on device: FuseDevice, until deadline: ContinuousClock.Instant, _ work: @escaping @Sendable () async -> Void
    ) -> Bool {
        state.withLock { state in
            if let index = state.early.firstIndex(of: unique) {
                state.early.remove(at: index)
                return false
            }
            // It cannot take itself out before it is in here: that needs the lock.
            let task = Task.detached { await work() }
            state.entries[unique] = Entry(task: task, deadline: deadline, device: device)
            return true
        }
    }

    /// - Returns: whether the caller is the one to answer.
    func finish(_ unique: UInt64) -> Bool { state.withLock { $0.entries.removeValue(forKey: unique) } != nil }

    func interrupt(_ unique: UInt64) -> Taken? {
        let entry = state.withLock { state -> Entry? in
            if let entry = state.entries.removeValue(forKey: unique) { return entry }
            if state.early.count >= Self.maxEarly { state.early.removeFirst() }
            state.early.append(unique)
            return nil
        }
        entry?.task.cancel()
        return entry.map { Taken(unique: unique, device: $0.device) }
    }

    /// Those whose time is over at `now`; `nil` takes all.
    func takeOverdue(_ now: ContinuousClock.Instant?) -> [Taken] {
        let overdue = state.withLock { state in
            let overdue = state.entries.filter { entry in now.map { entry.value.deadline <= $0 } ?? true }
            for unique in overdue.keys { state.entries[unique] = nil }
            return overdue
        }
        return overdue.map { unique, entry in
            entry.task.cancel()
            return Taken(unique: unique, device: entry.device)
        }
    }
}
