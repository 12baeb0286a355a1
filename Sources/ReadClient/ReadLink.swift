internal import BlockingThreads
internal import CLinux
internal import ChunkModel
internal import Glibc
internal import ReadProtocol
internal import Synchronization

/// The connection to the daemon: sends requests from whichever thread has one, and takes all answers on a thread of its own. When the daemon goes, it
/// connects again and asks again, until the deadline of each request.
final class ReadLink: Sendable {
    /// Between two attempts to connect, in nanoseconds: doubled with each that fails.
    static let firstPause: UInt64 = 20_000_000
    static let longestPause: UInt64 = 500_000_000
    /// Before a request that the daemon was too busy for is sent again, in nanoseconds: doubled each time.
    static let firstRetry: UInt64 = 20_000_000
    static let longestRetry: UInt64 = 1_000_000_000
    /// For as long as this, a request for which the daemon has no source is asked again (nanoseconds): it may just have started.
    static let patience: UInt64 = 5_000_000_000
    /// After one was given up so, others are not asked again for as long as this (nanoseconds): a whole tree would take its patience file by file.
    static let impatience: UInt64 = 10_000_000_000
    /// Answers without the descriptor that this side has let go of a moment ago; after as many, something is wrong.
    static let maxLost = 100
    /// A daemon that accepts and says nothing for so long (nanoseconds) is left, and tried again.
    static let helloTime: UInt64 = 5_000_000_000

    let socketPath: String
    let deadline: UInt64
    let state = Mutex(State())
    let releases = Mutex<[Release]>([])
    private let wakeup: Int32

    init(socket: String, deadline: Duration) throws(ReadClientError) {
        socketPath = socket
        let (seconds, attoseconds) = deadline.components
        self.deadline =
            UInt64(clamping: seconds).multipliedReportingOverflow(by: 1_000_000_000).partialValue
            &+ UInt64(clamping: attoseconds / 1_000_000_000)
        wakeup = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard wakeup >= 0 else { throw ReadClientError(.broken, "no descriptor is left: \(String(cString: strerror(errno)))") }
        guard BlockingThreads.startThread({ [self] in ReadLinkThread(self).run() }) else {
            throw ReadClientError(.broken, "the system grants no thread")
        }
    }

    deinit { close(wakeup) }

    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    func wake() { eventfd_write(wakeup, 1) }
    var wakeDescriptor: Int32 { wakeup }

    /// Everything under way ends, and the thread.
    func shut() {
        state.withLock { $0.isClosed = true }
        wake()
    }

    // MARK: Requests

    /// Sends the request, now or as soon as there is a daemon. `complete` is called once, on the link's thread.
    ///
    /// - Returns: what `cancel` takes.
    @discardableResult
    func submit(_ request: Request, target: Target? = nil, within limit: UInt64? = nil, complete: @escaping Completion) -> UInt32 {
        let now = Self.now()
        let (id, mustWake, isClosed) = state.withLock { state -> (UInt32, Bool, Bool) in
            guard !state.isClosed else { return (0, false, true) }
            repeat { state.nextID = state.nextID == .max ? 1 : state.nextID + 1 } while state.pending[state.nextID] != nil
            let id = state.nextID
            let due = now &+ (limit ?? deadline)
            state.pending[id] = Pending(request: request, target: target, deadline: due, began: now, complete: complete)
            state.waiting.append(id)
            pump(&state, now)
            return (id, !state.isUp || due < state.wakeAt || !state.out.isEmpty, false)
        }
        if isClosed { complete(.failure(ReadClientError(.cancelled, "the connection to the daemon was closed"))) }
        if mustWake { wake() }
        return id
    }

    /// The request's answer is not wanted; it is completed with `cancelled` soon, unless it has been completed.
    func cancel(_ id: UInt32) {
        state.withLock { state in
            guard let pending = state.pending[id] else { return }
            state.cancelled.append(id)
            if pending.isSent { put(.cancel(id: id), &state) }
        }
        wake()
    }

    /// Sends what can be sent of the requests that wait.
    func pump(_ state: inout State, _ now: UInt64) {
        guard state.isUp, !state.waiting.isEmpty else { return }
        var left: [UInt32] = []
        for id in state.waiting {
            guard let pending = state.pending[id], !pending.isSent else { continue }
            guard pending.notBefore <= now, state.underWay < ReadLimits.maxRequestsUnderWay, let request = frame(id, pending, &state) else {
                left.append(id)
                continue
            }
            state.pending[id]!.isSent = true
            state.underWay += 1
            put(request, &state)
        }
        state.waiting = left
    }

    /// The frame; `nil` while its flist is not open at this connection, which is set about then.
    private func frame(_ id: UInt32, _ pending: Pending, _ state: inout State) -> ReadRequest? {
        let request = pending.request
        if case .open(let flist, let name) = request {
            state.flists[flist]?.isOpening = true
            return .open(id: id, name: pending.usesName ? name : state.flists[flist]?.digest?.hex ?? name)
        }
        guard let handle = state.flists[request.flist]?.handle else {
            reopen(request.flist, &state)
            return nil
        }
        switch request {
        case .read(_, let ino, let offset, let length, let priority):
            return .read(id: id, flist: handle, ino: ino, offset: offset, length: length, priority: priority)
        case .whole(_, let ino, let fill): return .whole(id: id, flist: handle, ino: ino, fill: fill)
        case .prefetch: return .prefetch(id: id, flist: handle)
        case .open: return nil
        }
    }

    /// The flist was open before the daemon restarted: the same one is opened again, for those that wait.
    private func reopen(_ number: UInt64, _ state: inout State) {
        guard let flist = state.flists[number], !flist.isOpening else { return }
        state.flists[number]!.isOpening = true
        repeat { state.nextID = state.nextID == .max ? 1 : state.nextID + 1 } while state.pending[state.nextID] != nil
        let id = state.nextID
        let now = Self.now()
        state.pending[id] = Pending(
            request: .open(flist: number, name: flist.name), target: nil, deadline: now &+ deadline, began: now
        ) { [weak self] result in self?.reopened(number, result) }
        state.pending[id]!.isSent = true
        state.underWay += 1
        put(.open(id: id, name: flist.digest?.hex ?? flist.name), &state)
    }

    private func reopened(_ number: UInt64, _ result: Result<Reply, ReadClientError>) {
        var failed: [Completion] = []
        var error = ReadClientError(.broken, "the flist cannot be opened again")
        switch result {
        case .success(.opened(let opened)):
            close(opened.descriptor)
            return
        case .success: break
        case .failure(let reason): error = reason
        }
        state.withLock { state in
            state.flists[number]?.isOpening = false
            for (id, pending) in state.pending where pending.request.flist == number && !pending.isSent {
                failed.append(pending.complete)
                state.pending[id] = nil
            }
        }
        for complete in failed { complete(.failure(error)) }
    }

    // MARK: Sending

    func put(_ request: ReadRequest, _ state: inout State) {
        guard state.fd >= 0 else { return }
        let bytes = request.encoded
        guard state.out.isEmpty else {
            state.out += bytes
            return
        }
        let sent = bytes.withUnsafeBytes { chunkmesh_send(state.fd, $0.baseAddress, bytes.count, -1, Int32(MSG_DONTWAIT)) }
        // What is broken shows when the thread reads; what is full is sent on by it.
        if sent < bytes.count { state.out += bytes.dropFirst(max(0, sent)) }
    }

    // MARK: What is known without asking

    /// The content, when the whole range is known to be ready.
    func known(_ flist: UInt64, _ ino: Int64, _ range: Range<UInt64>) -> RemoteContent? {
        state.withLock { state in
            state.clock &+= 1
            let key = Key(flist: flist, ino: ino)
            guard let known = state.known[key], known.isWhole || known.ranges.contains(range) else { return nil }
            state.known[key]!.used = state.clock
            return known.content
        }
    }

    func knownWhole(_ flist: UInt64, _ ino: Int64) -> RemoteContent? {
        state.withLock { state in
            guard let known = state.known[Key(flist: flist, ino: ino)], known.isWhole else { return nil }
            return known.content
        }
    }

    // MARK: Flists

    func addFlist(_ name: String) -> UInt64 {
        state.withLock { state in
            state.nextFlist += 1
            state.flists[state.nextFlist] = Flist(name: name)
            return state.nextFlist
        }
    }

    func removeFlist(_ number: UInt64) {
        state.withLock { state in
            if let handle = state.flists.removeValue(forKey: number)?.handle, state.isUp { put(.close(flist: handle), &state) }
            for key in state.known.keys where key.flist == number { state.known[key] = nil }
        }
    }

    /// A content's descriptor was closed: the thread tells the daemon. Takes no lock that anybody holds while references go.
    func released(_ number: UInt64, _ epoch: UInt64) {
        releases.withLock { $0.append(Release(number: number, epoch: epoch)) }
        wake()
    }
}
