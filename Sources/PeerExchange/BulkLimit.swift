internal import ChunkModel
internal import Synchronization

/// What a node may send to its peers, and take from them: bits a second of chunks and flists; `nil` is no limit.
public struct ExchangeLimits: Sendable, Hashable {
    public var send: UInt64?
    public var receive: UInt64?
    public init(send: UInt64? = nil, receive: UInt64? = nil) { (self.send, self.receive) = (send, receive) }
}

/// Bytes a second that all connections of an exchange move together in one direction. What somebody waits for goes first; small frames
/// are not counted, so that whoever waits is told so.
final class BulkLimit: Sendable {
    /// What may move at once after a pause: as much as comes together in this time, and at least `leastBurst` bytes.
    static let burstSeconds = 0.02
    static let leastBurst = 16_384.0
    /// Bytes granted at once at most, so that the connections take turns, and at least, so that they do not wake for nothing.
    static let mostGranted = 65_536
    static let leastGranted = 4_096
    /// Nanoseconds that everything else waits after a foreground transfer got less than it could use.
    static let foregroundTime: UInt64 = 50_000_000
    /// Nanoseconds without bytes after which a transfer counts as foreground: the other end must not take it for dead.
    static let patience: UInt64 = 1_000_000_000
    /// Nanoseconds after which those that got nothing ask again.
    static let pause: UInt64 = 5_000_000

    private struct State {
        /// Bytes a second.
        var rate: Double?
        var level = 0.0
        var filledAt: UInt64 = 0
        var foregroundUntil: UInt64 = 0
    }
    private let state: Mutex<State>

    init(bitsPerSecond: UInt64?) { state = Mutex(State(rate: bitsPerSecond.map { Double($0) / 8 })) }

    func set(bitsPerSecond: UInt64?) {
        state.withLock { state in
            state.rate = bitsPerSecond.map { Double($0) / 8 }
            state.level = min(state.level, 0)
        }
    }

    /// - Parameters:
    ///   - now: nanoseconds of a monotonic clock.
    ///   - movedAt: when the transfer moved bytes last.
    /// - Returns: how many of the wanted bytes may move now; none when the caller is to ask again after `pause`.
    func grant(_ wanted: Int, _ priority: FetchPriority, movedAt: UInt64, now: UInt64) -> Int {
        state.withLock { state in
            guard let rate = state.rate else { return wanted }
            if now > state.filledAt {
                let passed = min(Double(now - state.filledAt) / 1e9, 1)
                state.level = min(max(rate * Self.burstSeconds, Self.leastBurst), state.level + passed * rate)
                state.filledAt = now
            }
            let isFirst = priority == .foreground || (now > movedAt && now - movedAt >= Self.patience)
            guard isFirst || now >= state.foregroundUntil else { return 0 }
            let granted = min(wanted, Self.mostGranted, Int(max(state.level, 0)))
            let isEnough = granted >= min(wanted, Self.leastGranted)
            if priority == .foreground, granted < wanted { state.foregroundUntil = now &+ Self.foregroundTime }
            guard isEnough else { return 0 }
            state.level -= Double(granted)
            return granted
        }
    }

    /// Bytes that moved without a grant, or with a negative number those that were granted and did not move.
    func charge(_ bytes: Int) {
        state.withLock { if $0.rate != nil { $0.level -= Double(bytes) } }
    }
}
