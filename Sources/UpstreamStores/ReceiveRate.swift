public import ChunkModel
internal import Synchronization

/// A token bucket whose level may fall below zero: bytes that arrived were received, wanted or not, and are paid off before
/// the next ones are let in. A value without a clock.
struct TokenBucket: Sendable {
    /// Bytes per second; zero lets nothing in.
    private(set) var rate: Double
    private var level: Double
    private var filledAt: ContinuousClock.Instant

    /// How much may arrive at once after a pause: a tenth of a second's worth, at least 16 KiB. Many nodes have such a bucket: larger
    /// ones together would show at the line.
    var burst: Double { rate == 0 ? 0 : max(rate / 10, 16_384) }

    init(bytesPerSecond: Int, now: ContinuousClock.Instant) {
        rate = Double(max(bytesPerSecond, 0))
        level = 0
        filledAt = now
        level = burst
    }

    /// Another rate from now on; what was saved or is owed stays.
    mutating func set(bytesPerSecond: Int, now: ContinuousClock.Instant) {
        fill(now)
        rate = Double(max(bytesPerSecond, 0))
        level = min(level, burst)
    }

    /// How long until bytes may be received again; zero when they may now, `nil` when never at this rate.
    mutating func delay(now: ContinuousClock.Instant) -> Duration? {
        fill(now)
        if level > 0 { return .zero }
        return rate > 0 ? .seconds(min((1 - level) / rate, 3600)) : nil
    }

    mutating func charge(_ bytes: Int, now: ContinuousClock.Instant) {
        fill(now)
        level -= Double(bytes)
    }

    private mutating func fill(_ now: ContinuousClock.Instant) {
        guard now > filledAt else { return }
        level = min(burst, level + (now - filledAt).seconds * rate)
        filledAt = now
    }
}

/// What received bytes cost on the line: as Ethernet frames of 1,514 bytes, each with 1,448 bytes of a TCP stream with time stamps.
enum LineCost {
    static let segmentBytes = 1_448
    static let frameHeaderBytes = 66
    /// The hub's share in opening and closing a connection, and its certificates where there is TLS.
    static let connectionBytes = 210
    static let handshakeBytes = 5_000

    static func stream(_ bytes: Int) -> Int { bytes &+ (bytes &* frameHeaderBytes) / segmentBytes }
}

/// The rate that all transfers of a node keep to together, and the account of what they cost. Transfers over the rate are paused, those
/// of high priority resume first.
public final class ReceiveRate: Sendable {
    /// A transfer that is held back for others may receive a little this often, so that the server does not take us for gone.
    static let heldSip: Duration = .seconds(10)
    /// While held back, transfers look again this often at the latest.
    static let heldLook: Duration = .milliseconds(500)

    /// Who gives way to readers.
    public enum Hold: Sendable {
        case nobody
        /// Prefetches. What is read ahead goes on beside the readers, a little at a time (`AheadBudget`): it is for readers of this node, and
        /// without it the line would be idle for a round trip between any two chunks.
        case prefetches
        /// Everything below `FetchPriority.foreground`: there are readers at other nodes.
        case all
    }

    private struct State {
        var bucket: TokenBucket?
        var hold = Hold.nobody
        var charged: UInt64 = 0
        var isThrottled = false
        var observers: [@Sendable () -> Void] = []
    }
    private let state = Mutex(State())

    public init(bytesPerSecond: Int? = nil) { set(bytesPerSecond: bytesPerSecond) }

    /// Changes the rate from now on; `nil` takes the limit away, zero lets nothing in.
    public func set(bytesPerSecond: Int?) {
        let now = ContinuousClock.now
        state.withLock { state in
            guard let bytesPerSecond else { return state.bucket = nil }
            if state.bucket == nil {
                state.bucket = TokenBucket(bytesPerSecond: bytesPerSecond, now: now)
            } else {
                state.bucket?.set(bytesPerSecond: bytesPerSecond, now: now)
            }
        }
        wakeAll()
    }

    /// Holds back what gives way to readers, or lets it go on.
    public func hold(_ hold: Hold) {
        let isNew = state.withLock { state in
            defer { state.hold = hold }
            return state.hold != hold
        }
        if isNew { wakeAll() }
    }

    /// Bytes that the line carried for this node since it started, with all headers, as far as can be told from here.
    public var charged: UInt64 { state.withLock { $0.charged } }

    /// Whether a transfer had to wait for the rate since this was asked last.
    public func takeThrottled() -> Bool {
        state.withLock { state in
            defer { state.isThrottled = false }
            return state.isThrottled
        }
    }

    /// Transfers whose urgency has changed look again.
    public func wakeAll() {
        for wake in state.withLock({ $0.observers }) { wake() }
    }

    /// - Parameter wake: called when waiting transfers may go on; must not block.
    func observe(_ wake: @escaping @Sendable () -> Void) { state.withLock { $0.observers.append(wake) } }

    var isLimited: Bool { state.withLock { $0.bucket != nil } }

    /// Bytes a second; `nil` without a limit.
    var limit: Double? { state.withLock { $0.bucket?.rate } }

    enum Wait: Sendable, Equatable {
        case no
        /// For the rate.
        case rate(Duration)
        /// For those who come first.
        case held
    }

    /// Whether bytes for a transfer of this priority may be received.
    ///
    /// - Parameter isAdmitted: it may go on beside readers of this node, if it is read ahead for them.
    func wait(_ priority: FetchPriority, isAdmitted: Bool = false) -> Wait {
        let now = ContinuousClock.now
        return state.withLock { state in
            switch state.hold {
            case .nobody: break
            case .prefetches where priority == .foreground || priority == .readAhead && isAdmitted: break
            case .all where priority == .foreground: break
            case .prefetches, .all: return .held
            }
            guard let wait = state.bucket?.delay(now: now) else {
                guard state.bucket != nil else { return .no }
                state.isThrottled = true
                return .held
            }
            if wait <= .zero { return .no }
            state.isThrottled = true
            return .rate(wait)
        }
    }

    /// Sleeps until bytes may be received.
    func ready(_ priority: FetchPriority) async throws(CancellationError) {
        while true {
            let pause: Duration
            switch wait(max(priority, FetchUrgency.current?.priority ?? priority)) {
            case .no: return
            case .rate(let time): pause = min(time, Self.heldLook)
            case .held: pause = .milliseconds(20)
            }
            do { try await Task.sleep(for: max(pause, .milliseconds(1))) } catch { throw CancellationError() }
        }
    }

    /// - Parameter bytes: of a stream, without the headers of the network.
    func charge(_ bytes: Int) { add(LineCost.stream(bytes)) }

    /// - Parameter cost: bytes on the line.
    func add(_ cost: Int) {
        guard cost > 0 else { return }
        let now = ContinuousClock.now
        state.withLock { state in
            state.charged &+= UInt64(cost)
            state.bucket?.charge(cost, now: now)
        }
    }
}

/// How urgent the fetches of a task are by now: a prefetch that a reader has come to wait for is not held back any more.
public final class FetchUrgency: Sendable {
    @TaskLocal public static var current: FetchUrgency?
    private let value: Atomic<UInt8>
    /// Whether the chunk is known to hold a whole block, and so is as long as chunks are.
    public let isWholeBlock: Bool

    public init(_ priority: FetchPriority, isWholeBlock: Bool = false) {
        value = Atomic(priority.rawValue)
        self.isWholeBlock = isWholeBlock
    }

    public var priority: FetchPriority { FetchPriority(rawValue: value.load(ordering: .relaxed)) ?? .foreground }

    public func raise(to priority: FetchPriority) {
        _ = value.max(priority.rawValue, ordering: .relaxed)
    }
}
