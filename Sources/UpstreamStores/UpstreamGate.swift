public import ChunkModel
internal import Synchronization

/// Why the gate let nobody through.
public enum UpstreamGateError: Error, Sendable, CustomStringConvertible {
    case cancelled
    case full

    public var description: String {
        switch self {
        case .cancelled: "cancelled"
        case .full: "\(UpstreamGate.maxWaiting) fetches wait for the upstream already"
        }
    }
}

/// How many fetches from upstream are under way at once, and who is next: the most urgent, and among those who came first.
///
/// The limit may change at any time: a lower one lets those under way finish. Zero closes the gate; the waiters stay.
public final class UpstreamGate: Sendable {
    /// Fetches that wait; further ones are refused.
    public static let maxWaiting = 65_536

    private struct Waiter {
        let ticket: UInt64
        let continuation: CheckedContinuation<Bool, Never>
    }

    /// First come first served, with removal of any; what was removed is skipped when its turn comes.
    private struct Line {
        var waiters: [Waiter?] = []
        var head = 0

        mutating func append(_ waiter: Waiter) { waiters.append(waiter) }

        mutating func next() -> Waiter? {
            while head < waiters.count {
                let waiter = waiters[head]
                waiters[head] = nil
                head += 1
                if head > 64, head * 2 > waiters.count {
                    waiters.removeFirst(head)
                    head = 0
                }
                if let waiter { return waiter }
            }
            waiters.removeAll(keepingCapacity: true)
            head = 0
            return nil
        }

        mutating func remove(_ ticket: UInt64) -> Waiter? {
            guard let index = waiters[head...].firstIndex(where: { $0?.ticket == ticket }) else { return nil }
            defer { waiters.remove(at: index) }
            return waiters[index]
        }
    }

    private struct State {
        var limit: Int
        var inUse = 0
        var waiting = 0
        var ticket: UInt64 = 0
        /// One for each priority.
        var lines = [Line](repeating: Line(), count: FetchPriority.allCases.count)
        /// Cancelled before they stood in line.
        var cancelledEarly: Set<UInt64> = []

        /// Those who may go now.
        mutating func admit() -> [Waiter] {
            var admitted: [Waiter] = []
            while inUse < limit, waiting > 0 {
                var next: Waiter?
                for line in lines.indices.reversed() where next == nil { next = lines[line].next() }
                guard let next else { break }
                waiting -= 1
                inUse += 1
                admitted.append(next)
            }
            return admitted
        }
    }

    private let state: Mutex<State>
    /// The receive rate that goes with the gate; hand it to the `CurlMulti` that fetches behind it.
    public let rate: ReceiveRate

    public init(limit: Int, rate: ReceiveRate = ReceiveRate()) {
        state = Mutex(State(limit: max(0, limit)))
        self.rate = rate
    }

    public var limit: Int { state.withLock { $0.limit } }
    public var inUse: Int { state.withLock { $0.inUse } }
    public var waiting: Int { state.withLock { $0.waiting } }

    public func setLimit(_ limit: Int) {
        let admitted = state.withLock { state in
            state.limit = max(0, limit)
            return state.admit()
        }
        for waiter in admitted { waiter.continuation.resume(returning: true) }
    }

    /// Waits for a place; the caller owes one `leave()`.
    public func enter(_ priority: FetchPriority) async throws(UpstreamGateError) {
        let ticket: UInt64? = state.withLock { state in
            if state.inUse < state.limit, state.waiting == 0 {
                state.inUse += 1
                return nil
            }
            state.ticket += 1
            return state.ticket
        }
        guard let ticket else { return }
        var isFull = false
        let entered = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let full = stand(Waiter(ticket: ticket, continuation: continuation), priority)
                isFull = full
            }
        } onCancel: {
            let waiter = state.withLock { state -> Waiter? in
                for line in state.lines.indices {
                    if let waiter = state.lines[line].remove(ticket) {
                        state.waiting -= 1
                        return waiter
                    }
                }
                state.cancelledEarly.insert(ticket)
                return nil
            }
            waiter?.continuation.resume(returning: false)
        }
        state.withLock { _ = $0.cancelledEarly.remove(ticket) }
        if !entered { throw isFull ? .full : .cancelled }
    }

    /// - Returns: whether the line was full.
    private func stand(_ waiter: Waiter, _ priority: FetchPriority) -> Bool {
        let (admitted, refused, full) = state.withLock { state -> ([Waiter], Bool, Bool) in
            if state.cancelledEarly.contains(waiter.ticket) { return ([], true, false) }
            guard state.waiting < Self.maxWaiting else { return ([], true, true) }
            state.lines[Int(priority.rawValue)].append(waiter)
            state.waiting += 1
            return (state.admit(), false, false)
        }
        if refused { waiter.continuation.resume(returning: false) }
        for waiter in admitted { waiter.continuation.resume(returning: true) }
        return full
    }

    /// Gives the place of an `enter` back.
    public func leave() {
        let admitted = state.withLock { state in
            state.inUse = max(0, state.inUse - 1)
            return state.admit()
        }
        for waiter in admitted { waiter.continuation.resume(returning: true) }
    }
}
