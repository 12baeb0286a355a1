internal import ChunkModel

/// The accepting side's book of one connection: which requests the handler works on, which answers wait to be written.
///
/// Time comes in as `now`, nanoseconds of a monotonic clock. Requests are named by the client's ids, which rise strictly.
public struct ServerConnectionMachine: Sendable {
    public enum Directive: Hashable, Sendable {
        /// Give it to the handler.
        case handle(id: UInt32, PeerRequest)
        /// The client gave up or its deadline is over: tell the handler, free what was stored for the answer.
        case cancelled(id: UInt32)
        /// Close the connection and call `close`.
        case drop(ProtocolViolation)
        /// Nothing was asked for long: close the connection.
        case closeIdle
    }

    /// What the handler answered. The bytes of `data` stay with the caller.
    public enum Answer: Hashable, Sendable {
        case data(length: Int)
        case message([UInt8])
        case missing
        case busy(retryAfterMilliseconds: UInt32)
        case refused(RefusalReason)
    }

    /// What to write next.
    public enum Output: Hashable, Sendable {
        case frames([PeerFrame])
        /// The frame, then the bytes that were answered for `id`.
        case data(PeerFrame, id: UInt32)
    }

    private struct Entry {
        let request: PeerRequest
        let deadline: UInt64
        /// Bytes that the request's message keeps occupied.
        let weight: Int
        var beaten: UInt64
        var answer: Answer?
    }

    private struct Incoming {
        let kind: UInt8
        let priority: FetchPriority
        let deadline: UInt32
        /// Its bytes are thrown away; the client was told "busy".
        let isRejected: Bool
    }

    private let times: ProtocolTimes
    private var entries: [UInt32: Entry] = [:]
    private var ready = PriorityLine()
    private var frames: [PeerFrame] = []
    private var lastID: UInt32 = 0
    private var incoming: Incoming?
    private var assembly: MessageAssembly?
    private var weight = 0
    private var beatsDue = false
    private var lastUse: UInt64

    public init(times: ProtocolTimes = ProtocolTimes(), now: UInt64) {
        self.times = times
        lastUse = now
    }

    public var requestCount: Int { entries.count }
    /// Whether time matters more closely than for the idle limit.
    public var isBusy: Bool { !entries.isEmpty }
    /// Whether the connection shall be read: not while its small answers pile up.
    public var wantsInput: Bool { frames.count < ProtocolLimits.maxWaitingFrames }

    // MARK: Requests

    public mutating func receive(_ frame: PeerFrame, now: UInt64) -> [Directive] {
        lastUse = now
        do throws(ProtocolViolation) {
            return try take(frame, now: now)
        } catch {
            return [.drop(error)]
        }
    }

    private mutating func take(_ frame: PeerFrame, now: UInt64) throws(ProtocolViolation) -> [Directive] {
        if assembly != nil {
            guard case .part(let id, let bytes) = frame, id == assembly?.id else { throw ProtocolViolation("a message was interrupted") }
            try assembly?.append(bytes)
            return finishAssembly(now)
        }
        switch frame {
        case .request(let id, let body, let priority, let deadline):
            guard id > lastID else { throw ProtocolViolation("request id \(id) after \(lastID)") }
            lastID = id
            return try begin(id, body, priority, deadline, now)
        case .cancel(let id):
            guard id > 0, id <= lastID else { throw ProtocolViolation("a request that never came was cancelled") }
            return remove(id) == nil ? [] : [.cancelled(id: id)]
        case .part: throw ProtocolViolation("a part of no message")
        case .proof, .pending, .busy, .missing, .refused, .data, .message: throw ProtocolViolation("a server's frame from a client")
        }
    }

    private mutating func begin(
        _ id: UInt32, _ body: PeerFrame.RequestBody, _ priority: FetchPriority, _ deadline: UInt32, _ now: UInt64
    ) throws(ProtocolViolation) -> [Directive] {
        switch body {
        case .chunk(let chunk, let mode, let flist):
            return admit(id, PeerRequest(.chunk(chunk, mode, flist: flist), priority: priority), deadline, now)
        case .flistPiece(let digest, let offset, let length):
            guard length > 0, length <= ProtocolLimits.maxPieceBytes else { throw ProtocolViolation("an flist piece of \(length) bytes") }
            return admit(id, PeerRequest(.flistPiece(digest, offset: offset, length: Int(length)), priority: priority), deadline, now)
        case .message(let kind, let total, let first):
            guard total <= ProtocolLimits.maxMessageBytes, first.count <= total else { throw ProtocolViolation("a message is too long") }
            let rejected =
                entries.count >= ProtocolLimits.maxWaitingRequests || weight + Int(total) > ProtocolLimits.maxWaitingMessageBytes
            assembly = try MessageAssembly(id: id, total: total, first: first)
            incoming = Incoming(kind: kind, priority: priority, deadline: deadline, isRejected: rejected)
            return finishAssembly(now)
        }
    }

    private mutating func finishAssembly(_ now: UInt64) -> [Directive] {
        guard let whole = assembly, whole.isWhole, let incoming else { return [] }
        (assembly, self.incoming) = (nil, nil)
        guard !incoming.isRejected else {
            rejectAsBusy(whole.id)
            return []
        }
        let request = PeerRequest(.message(kind: incoming.kind, payload: whole.bytes), priority: incoming.priority)
        return admit(whole.id, request, incoming.deadline, now, weight: whole.total)
    }

    private mutating func admit(
        _ id: UInt32, _ request: PeerRequest, _ deadline: UInt32, _ now: UInt64, weight: Int = 0
    ) -> [Directive] {
        guard entries.count < ProtocolLimits.maxWaitingRequests else {
            rejectAsBusy(id)
            return []
        }
        let allowed = UInt64(min(deadline, ProtocolLimits.maxDeadlineMilliseconds)) * 1_000_000
        entries[id] = Entry(request: request, deadline: now &+ allowed, weight: weight, beaten: now)
        self.weight += weight
        return [.handle(id: id, request)]
    }

    private mutating func rejectAsBusy(_ id: UInt32) {
        frames.append(.busy(id: id, retryAfterMilliseconds: ProtocolLimits.busyRetryMilliseconds))
    }

    private mutating func remove(_ id: UInt32) -> Entry? {
        guard let entry = entries.removeValue(forKey: id) else { return nil }
        weight -= entry.weight
        if ready.count > 2 * entries.count + 64 { ready.compact { entries[UInt32(truncatingIfNeeded: $0)]?.answer != nil } }
        return entry
    }

    // MARK: Answers

    /// Takes the handler's answer.
    ///
    /// - Returns: `false` when nobody waits for it any more (or it was answered already); the caller frees the bytes.
    ///   An answer that does not fit the request goes out as "internal error", and also returns `false`.
    public mutating func answer(id: UInt32, _ answer: Answer, now: UInt64) -> Bool {
        guard let entry = entries[id], entry.answer == nil else { return false }
        lastUse = now
        switch answer {
        case .missing: frames.append(.missing(id: id))
        case .busy(let retryAfter): frames.append(.busy(id: id, retryAfterMilliseconds: retryAfter))
        case .refused(let reason): frames.append(.refused(id: id, reason))
        case .data(let length):
            guard !entry.request.expectsMessage, length >= 0, length <= entry.request.maxDataBytes else { return misfit(id) }
            entries[id]?.answer = answer
            ready.push(UInt64(id), entry.request.priority)
            return true
        case .message(let bytes):
            guard entry.request.expectsMessage, bytes.count <= ProtocolLimits.maxMessageBytes else { return misfit(id) }
            entries[id]?.answer = answer
            ready.push(UInt64(id), entry.request.priority)
            return true
        }
        _ = remove(id)
        return true
    }

    private mutating func misfit(_ id: UInt32) -> Bool {
        frames.append(.refused(id: id, .internalError))
        _ = remove(id)
        return false
    }

    /// What to write when all before was written; higher priorities overtake what has not begun.
    public mutating func nextOutput(now: UInt64) -> Output? {
        if beatsDue {
            beatsDue = false
            for (id, entry) in entries where now >= entry.beaten && now - entry.beaten >= times.heartbeat {
                entries[id]?.beaten = now
                frames.append(.pending(id: id))
            }
        }
        if !frames.isEmpty {
            defer { frames.removeAll(keepingCapacity: true) }
            return .frames(frames)
        }
        while let item = ready.pop() {
            let id = UInt32(truncatingIfNeeded: item)
            guard entries[id]?.answer != nil, let answer = remove(id)?.answer else { continue }
            switch answer {
            case .data(let length): return .data(.data(id: id, length: UInt32(clamping: length)), id: id)
            case .message(let bytes): return .frames(MessageAssembly.frames(id: id, bytes) { .message(id: id, total: $0, first: $1) })
            case .missing, .busy, .refused: continue
            }
        }
        return nil
    }

    // MARK: Time

    /// To be called some times a second while `isBusy`, and once a second or so else; then look at `nextOutput`.
    public mutating func tick(now: UInt64) -> [Directive] {
        beatsDue = true
        // The client closes an idle connection first, so that no request of its runs into our closing.
        if entries.isEmpty, now > lastUse, now - lastUse >= 2 * times.idle { return [.closeIdle] }
        let late = entries.filter { now >= $0.value.deadline }.keys.sorted()
        return late.map { id in
            _ = remove(id)
            return .cancelled(id: id)
        }
    }

    /// The connection is gone: the requests whose handler must be told.
    public mutating func close() -> [Directive] {
        let left = entries.keys.sorted()
        entries = [:]
        ready = PriorityLine()
        frames = []
        (assembly, incoming) = (nil, nil)
        weight = 0
        return left.map { .cancelled(id: $0) }
    }
}
