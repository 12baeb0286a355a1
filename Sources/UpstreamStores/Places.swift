internal import ChunkModel
internal import Synchronization

/// A number of places that requests take turns in, urgent ones first, otherwise in the order in which they came.
///
/// For readers there are some more: prefetches that have the others may stand still for as long as there are readers.
///
/// The queue is as long as there are callers: they bound themselves.
final class Places: Sendable {
    private struct Waiter {
        let id: UInt64
        let priority: FetchPriority
        let continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var free: Int
        var waiting: [Waiter] = []
        /// Cancelled before they came to wait.
        var gone: Set<UInt64> = []
        var counter: UInt64 = 0
    }

    /// Beyond `count`, for `FetchPriority.foreground` alone; no more than `count`.
    static let readerPlaces = 4

    let count: Int
    private let state: Mutex<State>

    init(_ count: Int) {
        self.count = max(1, count)
        state = Mutex(State(free: self.count))
    }

    private func isFree(_ state: State, for priority: FetchPriority) -> Bool {
        state.free > (priority == .foreground ? -min(count, Self.readerPlaces) : 0)
    }

    /// Places taken, and requests that wait for one.
    var load: (active: Int, waiting: Int) { state.withLock { (count - $0.free, $0.waiting.count) } }

    /// Runs `body` in a place.
    ///
    /// - Returns: `nil` when the task was cancelled before there was a place.
    func take<T>(_ priority: FetchPriority, _ body: () async -> T) async -> T? {
        guard await enter(priority) else { return nil }
        defer { leave() }
        return await body()
    }

    private func enter(_ priority: FetchPriority) async -> Bool {
        if Task.isCancelled { return false }
        let id = state.withLock { state -> UInt64? in
            if isFree(state, for: priority) {
                state.free -= 1
                return nil
            }
            state.counter += 1
            return state.counter
        }
        guard let id else { return true }
        let isIn = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in wait(Waiter(id: id, priority: priority, continuation: continuation)) }
        } onCancel: {
            cancel(id)
        }
        state.withLock { _ = $0.gone.remove(id) }
        return isIn
    }

    private func wait(_ waiter: Waiter) {
        let answer = state.withLock { state -> Bool? in
            if state.gone.remove(waiter.id) != nil { return false }
            // A place may have become free since we looked.
            if isFree(state, for: waiter.priority) {
                state.free -= 1
                return true
            }
            state.waiting.append(waiter)
            return nil
        }
        if let answer { waiter.continuation.resume(returning: answer) }
    }

    private func cancel(_ id: UInt64) {
        let waiter = state.withLock { state -> Waiter? in
            guard let index = state.waiting.firstIndex(where: { $0.id == id }) else {
                state.gone.insert(id)
                return nil
            }
            return state.waiting.remove(at: index)
        }
        waiter?.continuation.resume(returning: false)
    }

    private func leave() {
        let next = state.withLock { state -> Waiter? in
            state.free += 1
            guard let highest = state.waiting.map(\.priority).max(), isFree(state, for: highest),
                let index = state.waiting.firstIndex(where: { $0.priority == highest })
            else { return nil }
            state.free -= 1
            return state.waiting.remove(at: index)
        }
        next?.continuation.resume(returning: true)
    }
}
