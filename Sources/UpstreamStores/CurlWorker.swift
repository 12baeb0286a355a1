internal import BlockingThreads
internal import CCurl
internal import Glibc
internal import Synchronization

/// The thread behind `CurlMulti`. Everything below "on the thread" is touched by that thread alone.
final class CurlWorker: @unchecked Sendable {
    /// Idle easy handles kept for the next transfers (each with its receive buffer); further ones are freed.
    static let idleHandles = 16
    /// Connections to one host and port; further transfers wait inside libcurl for one of them.
    static let connectionsPerHost = 16
    /// Idle connections kept open in all; the oldest is closed beyond that.
    static let idleConnections = 32
    /// Milliseconds that the thread sleeps when libcurl has no timer of its own and nobody wakes it.
    static let idlePoll = 30_000
    /// The same while transfers run, whose time is looked at then.
    static let busyPoll = 1_000

    private struct Inbox {
        var arrived: [CurlTransfer] = []
        var cancelled: Set<UInt64> = []
        var counter: UInt64 = 0
        var stopping = false
    }

    private let inbox = Mutex(Inbox())
    private let multi: UnsafeMutableRawPointer
    let rate: ReceiveRate
    let counters: UpstreamCounters
    let sockets: CurlSockets
    // On the thread:
    private var running: [UInt64: CurlTransfer] = [:]
    /// Not begun, since others come first: whoever asks the hub gets a window full of bytes, wanted now or not.
    private var held: [CurlTransfer] = []
    private var idle: [CurlHandle] = []

    private static let globalInit: Void = {
        // 3: TLS and, where there are any, sockets (CURL_GLOBAL_ALL, a macro that Swift does not import).
        _ = curl_global_init(3)
    }()

    init(rate: ReceiveRate, counters: UpstreamCounters) {
        Self.globalInit
        guard let multi = curl_multi_init() else { fatalError("libcurl has no memory for a multi handle") }
        self.multi = multi
        self.rate = rate
        self.counters = counters
        sockets = CurlSockets(rate: rate)
        _ = chunkmesh_curl_multi_set_long(multi, CURLMOPT_PIPELINING, 2)  // CURLPIPE_MULTIPLEX
        _ = chunkmesh_curl_multi_set_long(multi, CURLMOPT_MAX_HOST_CONNECTIONS, Self.connectionsPerHost)
        _ = chunkmesh_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, Self.idleConnections)
    }

    deinit {
        for handle in idle { handle.free() }
        curl_multi_cleanup(multi)
    }

    func start() {
        rate.observe { [weak self] in self?.wake() }
        precondition(BlockingThreads.startThread { [self] in run() }, "the system grants no thread")
    }

    func nextID() -> UInt64 {
        inbox.withLock {
            $0.counter += 1
            return $0.counter
        }
    }

    func submit(_ transfer: CurlTransfer) {
        let refusal: TransferFailure? = inbox.withLock { inbox in
            if inbox.stopping { return .stopped }
            // The cancellation may have come first.
            if inbox.cancelled.remove(transfer.id) != nil { return .cancelled }
            inbox.arrived.append(transfer)
            return nil
        }
        if let refusal { transfer.finish(.failure(refusal)) } else { curl_multi_wakeup(multi) }
    }

    func cancel(_ id: UInt64) {
        inbox.withLock { _ = $0.cancelled.insert(id) }
        curl_multi_wakeup(multi)
    }

    /// The caller of transfer `id` has its answer: no cancellation of it comes any more.
    func forget(_ id: UInt64) {
        inbox.withLock { _ = $0.cancelled.remove(id) }
    }

    private func wake() { curl_multi_wakeup(multi) }

    func stop() {
        inbox.withLock { $0.stopping = true }
        curl_multi_wakeup(multi)
    }

    // MARK: On the thread

    private func run() {
        while takeInbox() {
            holdBack()
            var active: Int32 = 0
            curl_multi_perform(multi, &active)
            collectFinished()
            endOverdue()
            let admitsMore = admitAhead([])
            let pause = admitsMore ? 0 : min(resumePaused(), held.isEmpty ? Self.idlePoll : ReceiveRate.heldLook.milliseconds)
            let look = sockets.adjust(Array(running.values))
            var ready: Int32 = 0
            curl_multi_poll(multi, nil, 0, Int32(min(pause, look, running.isEmpty ? Self.idlePoll : Self.busyPoll)), &ready)
        }
        for transfer in running.values { end(transfer, .failure(.stopped)) }
        for transfer in held { transfer.finish(.failure(.stopped)) }
        held = []
    }

    /// - Returns: whether to go on.
    private func takeInbox() -> Bool {
        let (arrived, cancelled, stopping) = inbox.withLock { inbox in
            // A cancellation whose transfer is not here yet stays for `submit`; one that came too late goes with `forget`.
            let mine = inbox.cancelled.filter { id in
                running[id] != nil || inbox.arrived.contains { $0.id == id } || held.contains { $0.id == id }
            }
            inbox.cancelled.subtract(mine)
            let taken = (inbox.arrived, mine, inbox.stopping)
            inbox.arrived = []
            return taken
        }
        let waiting = held + arrived
        held = []
        admitAhead(waiting)
        for transfer in waiting {
            if stopping {
                transfer.finish(.failure(.stopped))
            } else if cancelled.contains(transfer.id) {
                transfer.finish(.failure(.cancelled))
            } else if rate.wait(transfer.priority, isAdmitted: transfer.isAdmitted) == .held {
                held.append(transfer)
            } else {
                begin(transfer)
            }
        }
        for id in cancelled {
            if let transfer = running[id] { end(transfer, .failure(.cancelled)) }
        }
        return !stopping
    }

    private func begin(_ transfer: CurlTransfer) {
        guard let handle = idle.popLast() ?? CurlHandle() else {
            return transfer.finish(.failure(TransferFailure(kind: .other, retryable: true, line: "no memory for a transfer")))
        }
        transfer.attach(handle, worker: self)
        running[transfer.id] = transfer
        (transfer.request.counters ?? counters).add { $0.requests += 1 }
        let added = curl_multi_add_handle(multi, handle.easy)
        if added != CURLM_OK {
            let line = String(cString: curl_multi_strerror(added))
            end(transfer, .failure(TransferFailure(kind: .other, retryable: true, line: line)))
        }
    }

    private func collectFinished() {
        var left: Int32 = 0
        while let message = curl_multi_info_read(multi, &left) {
            guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle else { continue }
            let code = message.pointee.data.result
            var pointer: UnsafeMutableRawPointer?
            _ = chunkmesh_curl_get_pointer(easy, CURLINFO_PRIVATE, &pointer)
            guard let pointer else { continue }
            let transfer = Unmanaged<CurlTransfer>.fromOpaque(pointer).takeUnretainedValue()
            end(transfer, transfer.outcome(code))
        }
    }

    private func endOverdue() {
        let now = ContinuousClock.now
        for transfer in Array(running.values) {
            if let failure = transfer.overdue(now: now) { end(transfer, .failure(failure)) }
        }
    }

    private func end(_ transfer: CurlTransfer, _ result: Result<CurlResponse, TransferFailure>) {
        running[transfer.id] = nil
        if let handle = transfer.detach() {
            curl_multi_remove_handle(multi, handle.easy)
            if idle.count < Self.idleHandles {
                handle.reset()
                idle.append(handle)
            } else {
                handle.free()
            }
        }
        if case .failure(let failure) = result, !failure.isCancellation {
            (transfer.request.counters ?? counters).add(failure: failure.kind)
        }
        transfer.finish(result)
    }

    /// Readers come first: what else is under way is not read any more. Reading once more, up to the pause that the bytes meet, would
    /// open another window to the hub.
    private func holdBack() {
        for transfer in running.values where transfer.mayBeHeld && wait(transfer) == .held { transfer.holdBack() }
    }

    private func wait(_ transfer: CurlTransfer) -> ReceiveRate.Wait { rate.wait(transfer.priority, isAdmitted: transfer.isAdmitted) }

    /// Chooses what of that which is read ahead may go on beside readers: the oldest, as much as the budget allows. What was chosen once
    /// stays: pausing a transfer empties the line.
    ///
    /// - Returns: whether one that has not begun may begin.
    @discardableResult
    private func admitAhead(_ waiting: [CurlTransfer]) -> Bool {
        var budget = AheadBudget()
        var admitsMore = false
        // What came earlier is needed earlier.
        let transfers = (Array(running.values) + held + waiting).filter { $0.priority == .readAhead }.sorted { $0.id < $1.id }
        for transfer in transfers where transfer.isAdmitted { budget.take(transfer.remaining, isWholeBlock: transfer.isWholeBlock) }
        for transfer in transfers where !transfer.isAdmitted {
            guard budget.admits(transfer.remaining, isWholeBlock: transfer.isWholeBlock) else { break }
            transfer.isAdmitted = true
            if running[transfer.id] == nil, wait(transfer) != .held { admitsMore = true }
        }
        return admitsMore
    }

    /// Lets paused transfers go on as far as the rate allows, the urgent ones first.
    ///
    /// - Returns: milliseconds until the next ones may.
    private func resumePaused() -> Int {
        let paused = running.values.filter(\.isPaused).sorted { ($1.priority, $0.id) < ($0.priority, $1.id) }
        let now = ContinuousClock.now
        var soonest = Self.idlePoll
        for transfer in paused {
            switch wait(transfer) {
            case .no: transfer.resume()
            case .rate(let delay): return min(soonest, max(1, delay.milliseconds))
            case .held where now - transfer.pausedAt >= ReceiveRate.heldSip: transfer.resume(sip: true)
            case .held: soonest = min(soonest, ReceiveRate.heldLook.milliseconds)
            }
        }
        return running.values.contains { $0.isPaused && wait($0) == .no } ? 1 : soonest
    }
}

/// An easy handle with the buffer for libcurl's error text.
struct CurlHandle {
    let easy: UnsafeMutableRawPointer
    let errorText: UnsafeMutablePointer<CChar>

    init?() {
        guard let easy = curl_easy_init() else { return nil }
        self.easy = easy
        errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    }

    /// Forgets the options; connections belong to the multi handle and stay.
    func reset() {
        curl_easy_reset(easy)
        errorText[0] = 0
    }

    func free() {
        curl_easy_cleanup(easy)
        errorText.deallocate()
    }
}
