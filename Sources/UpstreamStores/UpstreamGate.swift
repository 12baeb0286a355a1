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

    private typealias Waiter = CheckedContinuation<Bool, Never>

    /// First come first served. Tickets of those who gave up are skipped when their turn comes.
    private struct Line {
        private var tickets: [UInt64] = []
        private var head = 0

        mutating func append(_ ticket: UInt64, waiters: [UInt64: Waiter]) {
            // Tickets without a waiter go before they outnumber the others.
            if tickets.count > 2 * waiters.count + 64 {
                tickets = tickets[head...].filter { waiters[$0] != nil }
                head = 0
            }
            tickets.append(ticket)
        }

        mutating func next(_ waiters: inout [UInt64: Waiter]) -> Waiter? {
            while head < tickets.count {
                let ticket = tickets[head]
                head += 1
                if let waiter = waiters.removeValue(forKey: ticket) { return waiter }
            }
            tickets.removeAll(keepingCapacity: true)
            head = 0
            return nil
        }
    }

    private struct State {
        var limit: Int
        var inUse = 0
        var waiters: [UInt64: Waiter] = [:]
        var ticket: UInt64 = 0
        /// One for each priority.
        var lines = [Line](repeating: Line(), count: FetchPriority.allCases.count)
        /// Cancelled before they stood in line.
        var cancelledEarly: Set<UInt64> = []

        /// Those who may go now.
        mutating func admit() -> [Waiter] {
            var admitted: [Waiter] = []
            while inUse < limit, !waiters.isEmpty {
                var next: Waiter?
                for line in lines.indices.reversed() where next == nil { next = lines[line].next(&waiters) }
                guard let next else { break }
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
    public var waiting: Int { state.withLock { $0.waiters.count } }

    public func setLimit(_ limit: Int) {
        let admitted = state.withLock { state in
            state.limit = max(0, limit)
            return state.admit()
        }
        for waiter in admitted { waiter.resume(returning: true) }
    }

    /// Waits for a place; the caller owes one `leave()`.
    public func enter(_ priority: FetchPriority) async throws(UpstreamGateError) {
        let ticket: UInt64? = state.withLock { state in
            if state.inUse < state.limit, state.waiters.isEmpty {
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
                let full = stand(continuation, ticket, priority)
                isFull = full
            }
        } onCancel: {
            let waiter = state.withLock { state -> Waiter? in
                let waiter = state.waiters.removeValue(forKey: ticket)
                if waiter == nil { state.cancelledEarly.insert(ticket) }
                return waiter
            }
            waiter?.resume(returning: false)
        }
        state.withLock { _ = $0.cancelledEarly.remove(ticket) }
        if !entered { throw isFull ? .full : .cancelled }
    }

    /// - Returns: whether the line was full.
    private func stand(_ waiter: Waiter, _ ticket: UInt64, _ priority: FetchPriority) -> Bool {
        let (admitted, refused, full) = state.withLock { state -> ([Waiter], Bool, Bool) in
            if state.cancelledEarly.contains(ticket) { return ([], true, false) }
            guard state.waiters.count < Self.maxWaiting else { return ([], true, true) }
            state.lines[Int(priority.rawValue)].append(ticket, waiters: state.waiters)
            state.waiters[ticket] = waiter
            return (state.admit(), false, false)
        }
        if refused { waiter.resume(returning: false) }
        for waiter in admitted { waiter.resume(returning: true) }
        return full
    }

    /// Gives the place of an `enter` back.
    public func leave() {
        let admitted = state.withLock { state in
            state.inUse = max(0, state.inUse - 1)
            return state.admit()
        }
        for waiter in admitted { waiter.resume(returning: true) }
    }
}
