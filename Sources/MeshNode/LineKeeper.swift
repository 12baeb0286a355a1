internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import FetchPlanner
internal import Glibc
internal import Gossip
internal import GossipTransport
internal import LineBudget
internal import Logging
internal import MeshKeys
internal import NodeConfiguration
internal import PeerExchange
internal import PeerProtocol
internal import Synchronization
internal import UpstreamStores

/// Keeps the site's line to upstream within what the operator gave: rate, hours, month, pause. Shares it with the other nodes of the site
/// by what they tell each other, lets readers come before prefetches wherever either is, and remembers what was spent.
final class LineKeeper: Sendable {
    /// Readers come one after the other: the line is theirs for this long after the last chunk.
    static let readerLinger: Duration = .milliseconds(30)
    /// The same for prefetches, which ask for the next chunk when one has come.
    static let prefetchLinger: Duration = .milliseconds(300)
    /// How long the others hold their prefetches back for a reader of whom they hear nothing more, and how often he is told again.
    static let holdTime: Duration = .seconds(2)
    static let holdAgain: Duration = .seconds(1)
    /// Between two looks at what this node can use, and at hours and caps.
    static let interval: Duration = .seconds(1)
    /// What is spent is told this often, times the nodes of the site by `spendingNodes`; a change of share or demand at once.
    static let spendingInterval: Duration = .seconds(2)
    static let spendingNodes = 32
    /// Nodes that are told at once; the others hear of it by gossip.
    static let maxTold = 64
    /// The least time between two such messages to the same nodes, unless a reader came or went.
    static let tellAgain: Duration = .milliseconds(100)
    /// For how long a message counts for more than gossip's older word.
    static let heardTime: Duration = .seconds(5)
    /// What gossip brings within this time is looked at once.
    static let newsPause: Duration = .milliseconds(20)
    /// Deadline of a message.
    static let messageDeadline: Duration = .seconds(2)
    /// Between two comparisons of the books with another node, while anything is spent, and else.
    static let bookInterval: Duration = .seconds(60)
    static let idleBookInterval: Duration = .seconds(600)
    /// What was spent is written at most this often: what a power cut loses, the other nodes remember.
    static let saveInterval: Duration = .seconds(10)

    struct Heard: Sendable {
        var note: LineNote
        var at: Duration
    }

    struct State {
        var maxRate: UInt64?
        var windows = LineWindows()
        var cap: LineCap?
        var budget = LineBudget(cameAt: .zero)
        var pause = LinePause()
        var book = LineBook()
        /// Fetches under way here.
        var uses: [UInt64: FetchPriority] = [:]
        var nextUse: UInt64 = 0
        /// Those of readers among them.
        var readers = 0
        var readersUntil: Duration = .zero
        var prefetchesUntil: Duration = .zero
        var need: UInt64 = .max
        var needLook: Duration = .zero
        var chargedThen: UInt64 = 0
        /// Of the rate's account, what stands in the book.
        var booked: UInt64 = 0
        var sequence: UInt64
        var told = LineNote()
        var toldFactAt: Duration = .zero
        var toldPeersAt: Duration = .zero
        var heard: [NodeID: Heard] = [:]
        /// Readers at other nodes, and until when they are believed.
        var holds: [NodeID: Duration] = [:]
        var hold = ReceiveRate.Hold.nobody
        /// Whether anything gives way to readers.
        var isHolding: Bool { hold != .nobody }
        var site = Site()
        var nextInterval: Duration = .zero
        var nextBook: Duration
        var bookedAtExchange: UInt64 = 0
        var nextSave: Duration = .zero
        var saved: LineRecord
        var isSaving = false
        var isShareSet = false
        /// News came.
        var lookAt: Duration?
        var lookedAt: Duration = .zero
    }

    /// What the last look found.
    struct Site: Sendable, Equatable {
        var rate = LineRate.unlimited
        /// By whom the rate is.
        var rateIsMine = true
        var cap: UInt64 = 0
        var spentMonth: UInt64 = 0
        var spentDay: UInt64 = 0
        var gate = LineGate.open
        var shown = Shown.open
        var until: Int64?
        var reason: String?
        enum Shown: String, Sendable { case open, paused, stopped, off, capReached }
    }

    let rate: ReceiveRate
    let me: NodeID
    let gossip: GossipTransport
    let exchange: LateExchange
    let clock: NodeClock
    let ticker: Wakeup
    let threads: BlockingThreads
    let logger: Logger
    let directory: StateDirectory?
    let state: Mutex<State>
    /// Called with what has changed, from any thread.
    private let onGate = Setting<(@Sendable (LineGate) -> Void)?>(nil)

    init(
        rate: ReceiveRate, upstream: Configuration.Upstream, me: NodeID, gossip: GossipTransport, exchange: LateExchange, clock: NodeClock,
        ticker: Wakeup, threads: BlockingThreads, directory: String, logger: Logger
    ) {
        (self.rate, self.me, self.gossip, self.exchange, self.clock) = (rate, me, gossip, exchange, clock)
        (self.ticker, self.threads, self.logger) = (ticker, threads, logger)
        self.directory = try? StateDirectory(directory)
        var record = LineRecord()
        do {
            if let bytes = try self.directory?.read(LineRecord.fileName, maxBytes: LineRecord.maxBytes) {
                if let known = LineRecord(bytes) {
                    record = known
                } else {
                    logger.warning(
                        "what was spent of the line cannot be read; the other nodes may remember it", metadata: ["file": "line.state"])
                }
            }
        } catch {
            logger.warning("what was spent of the line cannot be read; the other nodes may remember it", metadata: ["error": "\(error)"])
        }
        state = Mutex(
            State(
                maxRate: upstream.maxRate, windows: upstream.windows, cap: upstream.monthlyCap, pause: record.pause, book: record.book,
                sequence: UInt64(clamping: WallClock.now) << 20, nextBook: .seconds(2), saved: record))
        look()
    }

    func setOnGate(_ body: @escaping @Sendable (LineGate) -> Void) {
        onGate.value = body
        body(state.withLock { $0.site.gate })
    }

    /// New limits from now on.
    func configure(_ upstream: Configuration.Upstream) {
        state.withLock { state in (state.maxRate, state.windows, state.cap) = (upstream.maxRate, upstream.windows, upstream.monthlyCap) }
        look()
    }

    var gate: LineGate { state.withLock { $0.site.gate } }

    /// Why prefetches wait, one line; `nil` when they do not.
    var waitReason: String? { state.withLock { $0.site.reason } }

    /// Why nothing may be fetched now, not for readers either.
    var closedReason: String? { if case .closed(let reason) = gate { reason } else { nil } }

    // MARK: What is under way here

    /// - Returns: what `ended` is to be called with.
    func began(_ priority: FetchPriority) -> UInt64 {
        change { state, _ in
            state.nextUse += 1
            state.uses[state.nextUse] = priority
            if priority == .foreground { state.readers += 1 }
            return state.nextUse
        }
    }

    func ended(_ use: UInt64) {
        let charged = rate.charged
        let isUsedUp = change { state, now in
            guard let priority = state.uses.removeValue(forKey: use) else { return false }
            if priority == .foreground {
                state.readers -= 1
                state.readersUntil = now + Self.readerLinger
            } else {
                state.prefetchesUntil = now + Self.prefetchLinger
            }
            let (site, spent) = (state.site, charged > state.booked ? charged - state.booked : 0)
            return site.cap > 0 && site.shown == .open && site.spentMonth.addingSaturated(spent) >= site.cap
        }
        if isUsedUp { look() }
        ticker.wake()
    }

    /// A reader has come to wait for it.
    func raised(_ use: UInt64) {
        change { state, _ in
            guard let priority = state.uses[use], priority < .foreground else { return }
            state.uses[use] = .foreground
            state.readers += 1
        }
        rate.wakeAll()
    }

    private func change<R>(_ body: (inout State, Duration) -> R) -> R {
        let now = clock.now
        let (result, isDue) = state.withLock { state in
            let before = state.urgency(now: now)
            let result = body(&state, now)
            return (result, state.urgency(now: now) != before)
        }
        if isDue { look() }
        return result
    }

    // MARK: Pausing

    /// - Parameter seconds: until it ends by itself; `nil` is until it is taken back.
    func pause(_ extent: LinePause.Extent, seconds: Int64?) {
        let now = WallClock.now
        state.withLock { state in
            state.pause = state.pause.changed(to: extent, until: seconds.map { now.addingReportingOverflow(max($0, 1)).partialValue } ?? 0)
            state.nextSave = .zero
        }
        look(tellsAll: true)
    }

    // MARK: Looking

    /// When `look` is due though nothing happens.
    var nextLook: Duration {
        state.withLock { state in
            var due = state.nextInterval
            if let lookAt = state.lookAt { due = min(due, lookAt) }
            // What has passed since the last look has not been looked at.
            for moment in [state.readersUntil, state.prefetchesUntil] where moment > state.lookedAt { due = min(due, moment) }
            if let deadline = state.budget.nextDeadline(now: state.lookedAt) { due = min(due, deadline) }
            for until in state.holds.values { due = min(due, until) }
            return due
        }
    }

    /// Lets the ticker look when it is its turn.
    func lookSoon() {
        let now = clock.now
        state.withLock { $0.lookAt = min($0.lookAt ?? now + Self.newsPause, now + Self.newsPause) }
        ticker.wake()
    }

    /// Looks at everything again, does what follows, and tells the others what they must know.
    func look(tellsAll: Bool = false) {
        let members = gossip.siteMembers
        let facts = gossip.read { machine, _ in
            members.map { ($0, machine.facts(of: $0.id)[MeshFacts.lineKey].flatMap(LineNote.init)) }
        }
        let now = clock.now
        let outcome = state.withLock { state in
            let outcome = state.update(facts, me: me, rate: rate, now: now, tellsAll: tellsAll)
            // Under the lock, which neither takes: what an earlier look found must not come later.
            if let share = outcome.newShare { rate.set(bytesPerSecond: share == .max ? nil : Int(clamping: share)) }
            rate.hold(outcome.hold)
            if let note = outcome.fact { gossip.change { machine, _ in _ = machine.setFact(MeshFacts.lineKey, note.encoded) } }
            return outcome
        }
        if let note = outcome.message { tell(note, outcome.addressees) }
        if let gate = outcome.newGate {
            logger.info("the line to upstream", metadata: ["state": "\(outcome.shown.rawValue)", "reason": "\(waitReason ?? "none")"])
            onGate.value?(gate)
        }
        if outcome.savesNow { save() }
        if let partner = outcome.bookPartner { compareBooks(with: partner) }
    }

    /// Writes what was spent, unless nothing was. Blocking.
    func saveNow() {
        let record = state.withLock { state -> LineRecord? in
            state.enterSpending(rate: rate, me: me)
            let record = state.record
            guard record != state.saved else { return nil }
            state.saved = record
            return record
        }
        guard let record, let directory else { return }
        do {
            try directory.writeAtomically(LineRecord.fileName, record.encoded)
        } catch {
            state.withLock { $0.saved = LineRecord() }
            logger.warning("what was spent of the line cannot be written", metadata: ["error": "\(error)"])
        }
    }

    private func save() {
        threads.start { [self] in
            saveNow()
            state.withLock { $0.isSaving = false }
        }
    }
}
