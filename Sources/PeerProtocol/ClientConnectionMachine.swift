internal import ChunkModel

/// The dialling side's book of one connection: which requests wait, are under way, and what became of them.
///
/// Time comes in as `now`, nanoseconds of a monotonic clock. Requests are named by the caller's `token`s. Whatever happens, each
/// token that `submit` took gets exactly one final directive (`finish` or `deliverData`), at the latest from `close`.
public struct ClientConnectionMachine: Sendable {
    public enum Outcome: Hashable, Sendable {
        case missing
        case busy(retryAfterMilliseconds: UInt32)
        case refused(RefusalReason)
        case message([UInt8])
        case failed(PeerError)
    }

    public enum Directive: Hashable, Sendable {
        /// The peer works on it.
        case pending(token: UInt64)
        /// Final.
        case finish(token: UInt64, Outcome)
        /// The next `length` bytes of the stream are bulk: collect them, tell `dataProgress`, and `dataFinished` at the end.
        case beginData(length: Int)
        /// Final: the bulk bytes just finished are this request's.
        case deliverData(token: UInt64)
        /// Close the connection and call `close` with this error.
        case drop(PeerError)
    }

    private struct Entry {
        let request: PeerRequest
        let deadline: UInt64
        /// `nil` while it waits.
        var wireID: UInt32?
        /// On the stall clock.
        var heard: UInt64 = 0
    }

    private struct Bulk {
        let wireID: UInt32
        let started: UInt64
        var progressed: UInt64
    }

    private let times: ProtocolTimes
    private var entries: [UInt64: Entry] = [:]
    private var tokens: [UInt32: UInt64] = [:]
    private var line = PriorityLine()
    private var cancels: [UInt32] = []
    private var nextWireID: UInt32 = 1
    private var isOpen = false
    private var bulk: Bulk?
    private var bulkTime: UInt64 = 0
    private var assembly: MessageAssembly?
    private var received: UInt64 = 0
    private var lastUse: UInt64
    private var ticked: UInt64?

    public init(times: ProtocolTimes = ProtocolTimes(), now: UInt64) {
        self.times = times
        lastUse = now
    }

    /// Requests kept, waiting and under way.
    public var requestCount: Int { entries.count }
    /// Whether time matters more closely than for the idle limit.
    public var isBusy: Bool { !entries.isEmpty || bulk != nil }

    // MARK: Requests

    /// - Parameter deadline: point in time at which the request fails, on the clock of `now`.
    public mutating func submit(token: UInt64, _ request: PeerRequest, deadline: UInt64, now: UInt64) -> [Directive] {
        if let fault = request.fault { return [.finish(token: token, .failed(.invalidRequest(fault)))] }
        guard entries.count < ProtocolLimits.maxRequestsKept, entries[token] == nil else {
            return [.finish(token: token, .busy(retryAfterMilliseconds: ProtocolLimits.busyRetryMilliseconds))]
        }
        lastUse = now
        entries[token] = Entry(request: request, deadline: deadline)
        line.push(token, request.priority)
        return []
    }

    public mutating func cancel(token: UInt64) -> [Directive] { abandon(token, .cancelled) }

    /// The handshake is done; requests may go out.
    public mutating func opened(now: UInt64) {
        isOpen = true
        (received, lastUse) = (now, now)
    }

    /// What to write next: the frames of one step, to be sent in one piece. `nil` when there is nothing now.
    public mutating func nextFrames(now: UInt64) -> [PeerFrame]? {
        guard isOpen else { return nil }
        if let id = cancels.popLast() { return [.cancel(id: id)] }
        guard tokens.count < ProtocolLimits.maxRequestsUnderWay, nextWireID < .max else { return nil }
        while let token = line.pop() {
            guard var entry = entries[token], entry.wireID == nil else { continue }
            let id = nextWireID
            nextWireID += 1
            entry.wireID = id
            entry.heard = stallClock(now)
            entries[token] = entry
            tokens[id] = token
            return frames(id: id, entry, now: now)
        }
        return nil
    }

    private func frames(id: UInt32, _ entry: Entry, now: UInt64) -> [PeerFrame] {
        let left = entry.deadline > now ? (entry.deadline - now) / 1_000_000 : 0
        let deadline = min(max(UInt32(clamping: left), 1), ProtocolLimits.maxDeadlineMilliseconds)
        let priority = entry.request.priority
        switch entry.request.kind {
        case .chunk(let chunk, let mode, let flist):
            return [.request(id: id, .chunk(chunk, mode, flist: flist), priority: priority, deadline: deadline)]
        case .flistPiece(let digest, let offset, let length):
            let body = PeerFrame.RequestBody.flistPiece(digest, offset: offset, length: UInt32(clamping: length))
            return [.request(id: id, body, priority: priority, deadline: deadline)]
        case .message(let kind, let payload):
            return MessageAssembly.frames(id: id, payload) {
                .request(id: id, .message(kind: kind, total: $0, first: $1), priority: priority, deadline: deadline)
            }
        }
    }

    // MARK: Answers

    public mutating func receive(_ frame: PeerFrame, now: UInt64) -> [Directive] {
        received = now
        do throws(ProtocolViolation) {
            return try take(frame, now: now)
        } catch {
            return [.drop(.protocolViolation(error.description))]
        }
    }

    private mutating func take(_ frame: PeerFrame, now: UInt64) throws(ProtocolViolation) -> [Directive] {
        guard bulk == nil else { throw ProtocolViolation("a frame inside bulk data") }
        if assembly != nil {
            guard case .part(let id, let bytes) = frame, id == assembly?.id else { throw ProtocolViolation("a message was interrupted") }
            try assembly?.append(bytes)
            heard(id, now)
            return finishAssembly(now)
        }
        switch frame {
        case .pending(let id):
            guard let token = try token(of: id) else { return [] }
            heard(id, now)
            return [.pending(token: token)]
        case .busy(let id, let retryAfter): return try finish(id, .busy(retryAfterMilliseconds: retryAfter), now)
        case .missing(let id): return try finish(id, .missing, now)
        case .refused(let id, let reason): return try finish(id, .refused(reason), now)
        case .data(let id, let length):
            let token = try token(of: id)
            let allowed = token.flatMap { entries[$0]?.request.maxDataBytes } ?? ProtocolLimits.maxDataBytes
            guard length <= allowed, token.flatMap({ entries[$0]?.request.expectsMessage }) != true else {
                throw ProtocolViolation("\(length) bytes of data where at most \(allowed) were asked for")
            }
            bulk = Bulk(wireID: id, started: now, progressed: now)
            return [.beginData(length: Int(length))]
        case .message(let id, let total, let first):
            guard total <= ProtocolLimits.maxMessageBytes, first.count <= total else { throw ProtocolViolation("a message is too long") }
            if let token = try token(of: id), entries[token]?.request.expectsMessage != true {
                throw ProtocolViolation("a message where data was asked for")
            }
            assembly = try MessageAssembly(id: id, total: total, first: first)
            heard(id, now)
            return finishAssembly(now)
        case .part: throw ProtocolViolation("a part of no message")
        case .proof, .request, .cancel: throw ProtocolViolation("a client's frame from a server")
        }
    }

    /// `nil` for a request that was given up here; its late answer is passed over.
    private func token(of id: UInt32) throws(ProtocolViolation) -> UInt64? {
        guard id > 0, id < nextWireID else { throw ProtocolViolation("an answer to a request that was never sent") }
        return tokens[id]
    }

    private mutating func heard(_ id: UInt32, _ now: UInt64) {
        let clock = stallClock(now)
        if let token = tokens[id] { entries[token]?.heard = clock }
    }

    private mutating func finish(_ id: UInt32, _ outcome: Outcome, _ now: UInt64) throws(ProtocolViolation) -> [Directive] {
        guard let token = try token(of: id) else { return [] }
        remove(token, now)
        return [.finish(token: token, outcome)]
    }

    private mutating func finishAssembly(_ now: UInt64) -> [Directive] {
        guard let whole = assembly, whole.isWhole else { return [] }
        assembly = nil
        guard let token = tokens[whole.id] else { return [] }
        remove(token, now)
        return [.finish(token: token, .message(whole.bytes))]
    }

    private mutating func remove(_ token: UInt64, _ now: UInt64) {
        if let id = entries.removeValue(forKey: token)?.wireID { tokens[id] = nil }
        lastUse = max(lastUse, now)
    }

    /// Ends a request on this side; the peer is told when it knows of it.
    private mutating func abandon(_ token: UInt64, _ error: PeerError) -> [Directive] {
        guard let entry = entries.removeValue(forKey: token) else { return [] }
        if let id = entry.wireID {
            tokens[id] = nil
            cancels.append(id)
        } else if line.count > 2 * entries.count + 64 {
            line.compact { entries[$0] != nil }
        }
        return [.finish(token: token, .failed(error))]
    }

    // MARK: Bulk data

    /// Some bulk bytes came in.
    public mutating func dataProgress(now: UInt64) {
        received = now
        bulk?.progressed = now
    }

    /// All bytes that `beginData` announced have come in.
    public mutating func dataFinished(now: UInt64) -> [Directive] {
        guard let done = bulk else { return [] }
        bulk = nil
        received = now
        bulkTime += now >= done.started ? now - done.started : 0
        guard let token = tokens[done.wireID] else { return [] }
        remove(token, now)
        return [.deliverData(token: token)]
    }

    // MARK: Time

    /// Stands still while bulk bytes arrive, since no heartbeat can pass them.
    private func stallClock(_ now: UInt64) -> UInt64 {
        let inBulk = bulk.map { now >= $0.started ? now - $0.started : 0 } ?? 0
        return now >= bulkTime + inBulk ? now - bulkTime - inBulk : 0
    }

    /// To be called some times a second while `isBusy`, and once a second or so else.
    public mutating func tick(now: UInt64) -> [Directive] {
        defer { ticked = now }
        if let ticked, now > ticked, now - ticked >= times.requestStall { forgive(now) }
        if let bulk, now > bulk.progressed, now - bulk.progressed >= times.dataStall { return [.drop(.stalled)] }
        if entries.isEmpty, bulk == nil, now > lastUse, now - lastUse >= times.idle { return [.drop(.closed)] }
        if nextWireID == .max, tokens.isEmpty { return [.drop(.closed)] }
        let clock = stallClock(now)
        var late: [(UInt64, PeerError)] = []
        for (token, entry) in entries {
            if now >= entry.deadline {
                late.append((token, .timedOut))
            } else if entry.wireID != nil, clock > entry.heard, clock - entry.heard >= times.requestStall {
                late.append((token, .stalled))
            }
        }
        // When the whole connection was silent as long as the request, what comes next must not be sent into the same hole.
        if late.contains(where: { $0.1 == .stalled }), bulk == nil, now > received, now - received >= times.requestStall {
            return [.drop(.stalled)]
        }
        return late.sorted { $0.0 < $1.0 }.flatMap { abandon($0.0, $0.1) }
    }

    /// This process stood still itself: what the peer sent meanwhile may not have been read yet.
    private mutating func forgive(_ now: UInt64) {
        bulk?.progressed = now
        received = now
        let clock = stallClock(now)
        for token in entries.keys { entries[token]?.heard = clock }
    }

    /// The connection is gone: final directives for everything that was left.
    public mutating func close(_ error: PeerError) -> [Directive] {
        isOpen = false
        let left = entries.keys.sorted()
        entries = [:]
        tokens = [:]
        line = PriorityLine()
        cancels = []
        (bulk, assembly) = (nil, nil)
        return left.map { .finish(token: $0, .failed(error)) }
    }
}
