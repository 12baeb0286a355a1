internal import ChunkModel
internal import DecodedFiles
internal import ReadAPI
internal import ReadProtocol
internal import ReadServer
internal import Synchronization

/// What the node knows of one client of the read socket.
final class ReadSession: Sendable {
    /// Decoded files whose descriptor a client holds: twice what an orderly client keeps. Beyond, it gets bytes in place of descriptors.
    static let maxHeld = 2 * ReadLimits.maxHeldContents
    /// Files in which the client's way of reading is followed; the one used longest ago is forgotten.
    static let maxFollowed = 64
    /// Requests that carry their bytes with them, for one client at a time: a megabyte each.
    static let maxInline = 4

    private struct Followed {
        var ahead = ReadAhead()
        var used: UInt64
    }

    private struct State {
        var flists: [UInt32: FlistTable.Entry] = [:]
        var next: UInt32 = 0
        var held: [UInt64: DecodedFile] = [:]
        var followed: [OpenInodes.Key: Followed] = [:]
        var clock: UInt64 = 0
        var tickets: [FillTicket] = []
        var inline = 0
        var waiting: [CheckedContinuation<Void, Never>] = []
        var isEnded = false
    }

    let client: ReadConnection
    private let state = Mutex(State())

    init(_ client: ReadConnection) { self.client = client }

    // MARK: Flists

    /// - Returns: `nil` when the client has too many open.
    func add(_ entry: FlistTable.Entry) -> UInt32? {
        state.withLock { state in
            guard state.flists.count < ReadLimits.maxFlists, !state.isEnded else { return nil }
            repeat { state.next &+= 1 } while state.flists[state.next] != nil
            state.flists[state.next] = entry
            return state.next
        }
    }

    func flist(_ number: UInt32) -> FlistTable.Entry? { state.withLock { $0.flists[number] } }
    func close(_ number: UInt32) { state.withLock { $0.flists[number] = nil } }

    // MARK: Decoded files

    /// Tells the client that a range is ready, with the descriptor unless it holds that.
    ///
    /// - Returns: `false` when there is no descriptor to pass.
    func ready(_ id: UInt32, _ file: DecodedFile, _ range: Range<UInt64>, isWhole: Bool, _ descriptor: () -> DecodedDescriptor?) -> Bool {
        state.withLock { state in
            guard !state.isEnded else { return true }
            let isHeld = state.held[file.number] != nil
            var shared: SharedDescriptor?
            if !isHeld {
                guard state.held.count < Self.maxHeld, let descriptor = descriptor() else { return false }
                shared = SharedDescriptor(descriptor.fd, owner: descriptor)
                let (client, number) = (client, file.number)
                guard file.hold(by: client.number, onGone: { client.send(.gone(content: number)) }) else { return false }
            }
            let answer = ReadAnswer.ready(
                id: id, content: file.number, start: range.lowerBound, end: range.upperBound, isWhole: isWhole, hasDescriptor: !isHeld)
            if client.send(answer, descriptor: shared) {
                state.held[file.number] = file
            } else if !isHeld {
                file.release(by: client.number)
            }
            return true
        }
    }

    /// The client has closed its descriptor.
    func release(_ number: UInt64) {
        let file = state.withLock { $0.held.removeValue(forKey: number) }
        file?.release(by: client.number)
    }

    // MARK: Reading ahead

    /// Notes a read, and says which blocks to get ahead.
    ///
    /// - Returns: with the number of blocks that were read on without a gap.
    func read(_ key: OpenInodes.Key, _ blocks: Range<Int>, of count: Int) -> (next: Range<Int>, run: Int) {
        guard !blocks.isEmpty else { return (0..<0, 0) }
        return state.withLock { state in
            state.clock += 1
            if state.followed[key] == nil, state.followed.count >= Self.maxFollowed,
                let oldest = state.followed.min(by: { $0.value.used < $1.value.used })?.key
            {
                state.followed[oldest] = nil
            }
            var followed = state.followed[key] ?? Followed(used: 0)
            defer { state.followed[key] = followed }
            followed.used = state.clock
            let next = followed.ahead.read(blocks, of: count)
            return (next, followed.ahead.runLength)
        }
    }

    /// The client was told that all is there up to this block.
    func told(_ key: OpenInodes.Key, upTo block: Int) { state.withLock { $0.followed[key]?.ahead.told(upTo: block) } }

    /// What is got ahead for this client ends with it.
    func keep(_ ticket: FillTicket) {
        let dropped = state.withLock { state -> [FillTicket] in
            guard !state.isEnded else { return [ticket] }
            state.tickets.append(ticket)
            if state.tickets.count > Self.maxFollowed { state.tickets.removeFirst() }
            return []
        }
        for ticket in dropped { ticket.cancel() }
    }

    // MARK: Inline answers

    /// Waits until the client may have one more inline answer under way.
    func enterInline() async {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                guard state.inline >= Self.maxInline, !state.isEnded else {
                    state.inline += 1
                    return true
                }
                state.waiting.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
    }

    func leaveInline() {
        let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard !state.waiting.isEmpty else {
                state.inline -= 1
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
    }

    /// The client has gone.
    func end() {
        let (held, tickets, waiting) = state.withLock { state in
            state.isEnded = true
            state.inline += state.waiting.count
            defer { (state.flists, state.held, state.followed, state.tickets, state.waiting) = ([:], [:], [:], [], []) }
            return (state.held, state.tickets, state.waiting)
        }
        for ticket in tickets { ticket.cancel() }
        for file in held.values { file.release(by: client.number) }
        for continuation in waiting { continuation.resume() }
    }
}
