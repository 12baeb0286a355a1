/// What a node wants of the line.
public struct LineDemand: Sendable, Hashable {
    public enum Urgency: UInt8, Sendable, Hashable, Comparable {
        case none = 0
        /// Prefetches and read-ahead.
        case background = 1
        /// Somebody waits.
        case foreground = 2
        public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    public var urgency: Urgency
    /// Bytes a second that it could use: `.max` for a node that its share holds back.
    public var need: UInt64

    public init(_ urgency: Urgency, need: UInt64 = .max) { (self.urgency, self.need) = (urgency, need) }

    public static let none = LineDemand(.none, need: 0)
}

/// One node's share of the rate of its site's line.
///
/// A value without I/O or clock. Every node computes its share from what the nodes told each other: readers come before prefetches, equals
/// get equal shares, and what one cannot use goes to the others. Views differ for as long as news travels, so a node gives way at once and
/// takes only what the others have said to have given up: the shares do not add up to more than the line for longer than it takes two
/// newcomers to hear of each other.
public struct LineBudget: Sendable {
    /// What another live node of the site said last.
    public struct Peer: Sendable, Hashable {
        public var demand: LineDemand
        /// Bytes a second that it lets itself pull.
        public var share: UInt64
        public init(demand: LineDemand, share: UInt64) { (self.demand, self.share) = (demand, share) }
    }

    /// How long a node waits for others to give way that ought to have heard of it. Longer than gossip takes to reach everybody, or to
    /// find that one is dead; then it takes its share.
    public static let patience: Duration = .seconds(6)
    /// For this long a node that begins to want takes no more than if all nodes wanted: others may have begun at the same moment, and
    /// gossip takes as long to tell.
    public static let hearing: Duration = .seconds(1)
    /// The same for readers, of whom the others hear by message.
    public static let hearingOfReaders: Duration = .milliseconds(150)
    /// A node that has just come takes nothing (for a reader, an eighth of the line) until all others that it knows have told what they take
    /// and none has been added for `acquaintance`, or until this long after it came: then it is taken to be alone.
    public static let settling: Duration = .seconds(3)
    public static let acquaintance: Duration = .milliseconds(300)
    static let strangersPart: UInt64 = 8
    /// The part of the rate that is shared out: the rest is for what cannot be counted here (ends of connections, ARP, DNS, what is unread).
    public static let aim = 0.995

    /// Bytes a second that this node may pull.
    public private(set) var share: UInt64 = 0
    private var waitsSince: Duration?
    private var wantsSince: Duration?
    /// `nil` once it has settled.
    private var cameAt: Duration?
    private var known: (nodes: Int, since: Duration)

    /// - Parameter cameAt: when the node came to a site that it does not know yet; `nil` where it is known.
    public init(cameAt: Duration? = nil) { (self.cameAt, known) = (cameAt, (0, cameAt ?? .zero)) }

    /// Looks at the site again.
    ///
    /// - Parameters:
    ///   - rate: bytes a second of the whole site; `.max` is no limit.
    ///   - others: live nodes of the site, this one not among them, as far as they said anything.
    ///   - nodes: all live nodes of the site, this one included.
    /// - Returns: the share, which is to be told the others when it has changed.
    public mutating func update(rate: UInt64, demand: LineDemand, others: some Sequence<Peer>, nodes: Int, now: Duration) -> UInt64 {
        wantsSince = demand.urgency == .none ? nil : wantsSince ?? now
        guard rate != .max else {
            waitsSince = nil
            share = .max
            return share
        }
        let total = UInt64(Double(rate) * Self.aim)
        if share > total { share = total }
        let others = Array(others)
        guard isSettled(told: others.count, nodes: nodes, now: now) else {
            waitsSince = nil
            share = demand.urgency == .foreground ? min(demand.need, total / Self.strangersPart) : 0
            return share
        }
        let active = others.filter { $0.share > 0 || $0.demand.urgency > .none }
        var fair = Self.fairShare(of: total, mine: demand, others: active.map(\.demand))
        if isNew(demand.urgency, now: now) { fair = min(fair, max(share, total / UInt64(max(nodes, 1)))) }
        guard fair > share else {
            share = fair
            waitsSince = nil
            return share
        }
        let taken = active.reduce(UInt64(0)) { $0.addingClamped($1.share) }
        let free = taken >= total ? 0 : total - taken
        if free >= fair {
            share = fair
            waitsSince = nil
        } else {
            share = max(share, free)
            let since = waitsSince ?? now
            waitsSince = since
            if now - since >= Self.patience {
                share = fair
                waitsSince = nil
            }
        }
        return share
    }

    private mutating func isSettled(told: Int, nodes: Int, now: Duration) -> Bool {
        guard let cameAt else { return true }
        if nodes != known.nodes { known = (nodes, now) }
        let knowsAll = nodes > 1 && told >= nodes - 1 && now - known.since >= Self.acquaintance
        if knowsAll || now - cameAt >= Self.settling { self.cameAt = nil }
        return self.cameAt == nil
    }

    private func isNew(_ urgency: LineDemand.Urgency, now: Duration) -> Bool {
        wantsSince.map { now - $0 < (urgency == .foreground ? Self.hearingOfReaders : Self.hearing) } ?? false
    }

    /// When `update` is due at `now` or later though nothing has changed.
    public func nextDeadline(now: Duration) -> Duration? {
        let heard = [Self.hearingOfReaders, Self.hearing].compactMap { time in wantsSince.map { $0 + time } }.first { $0 > now }
        let settled = cameAt.map { came in [known.since + Self.acquaintance, came + Self.settling].first { $0 > now } ?? now }
        return [heard, settled, waitsSince.map { $0 + Self.patience }].compactMap { $0 }.min()
    }

    /// Readers first; then the others from what is left. Among equals the line is filled like vessels with water: who needs little gets
    /// what it needs.
    static func fairShare(of total: UInt64, mine: LineDemand, others: [LineDemand]) -> UInt64 {
        guard mine.urgency > .none else { return 0 }
        var left = total
        for urgency in [LineDemand.Urgency.foreground, .background] {
            let needs = others.filter { $0.urgency == urgency }.map(\.need)
            if mine.urgency == urgency { return fill(left, mine.need, among: needs) }
            left -= min(left, needs.reduce(0) { $0.addingClamped($1) })
        }
        return 0
    }

    private static func fill(_ total: UInt64, _ mine: UInt64, among others: [UInt64]) -> UInt64 {
        var left = total
        var count = UInt64(others.count) + 1
        for need in others.sorted() {
            let level = left / count
            guard need < level, need < mine else { return min(mine, level) }
            left -= need
            count -= 1
        }
        return min(mine, left)
    }
}

extension UInt64 {
    func addingClamped(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
