internal import Gossip
internal import LineBudget

extension MeshFacts {
    /// What a node wants of its site's line, what it takes, and what it knows of the line's limits.
    static let line: UInt8 = 4
    static let lineKey = FactKey(kind: line)!
}

/// What a node says of the line: a fact for gossip, and the same bytes as a message where it must be heard at once.
struct LineNote: Equatable, Sendable {
    static let version: UInt8 = 1
    static let byteCount = 83

    /// Later notes of a node have higher numbers, those after a restart too.
    var sequence: UInt64 = 0
    var demand = LineDemand.none
    /// Bytes a second that the node lets itself pull.
    var share: UInt64 = 0
    /// A reader waits for upstream at this moment: the others hold their prefetches back.
    var isReading = false
    /// What its configuration allows the site at this moment.
    var rate = LineRate.unlimited
    /// What it allows in a month; 0 is no limit.
    var cap: UInt64 = 0
    var pause = LinePause()
    /// What the node pulled on its latest day and on the one before.
    var days: [Spent] = []

    struct Spent: Equatable, Sendable {
        var day: UInt32
        var bytes: UInt64
    }

    var encoded: [UInt8] {
        var out: [UInt8] = [Self.version, demand.urgency.rawValue | (isReading ? 4 : 0)]
        for value in [sequence, share, demand.need, rate.bitsPerSecond, cap, pause.version] { out += value.bytes }
        out.append(pause.extent.rawValue)
        out += UInt64(bitPattern: pause.until).bytes
        for i in 0..<2 {
            let spent = i < days.count ? days[i] : Spent(day: 0, bytes: 0)
            out += spent.day.bytes + spent.bytes.bytes
        }
        return out
    }

    init() {}

    init?(_ bytes: [UInt8]) {
        guard bytes.count >= Self.byteCount, bytes[0] == Self.version, let urgency = LineDemand.Urgency(rawValue: bytes[1] & 3),
            let extent = LinePause.Extent(rawValue: bytes[50])
        else { return nil }
        func number(_ at: Int) -> UInt64 { UInt64(bytes: bytes[at..<at + 8]) }
        sequence = number(2)
        share = number(10)
        demand = LineDemand(urgency, need: number(18))
        isReading = bytes[1] & 4 != 0
        rate = LineRate(bitsPerSecond: number(26))
        cap = number(34)
        pause = LinePause(version: number(42), extent: extent, until: Int64(bitPattern: number(51)))
        days = [59, 71].compactMap { at in
            let spent = Spent(day: UInt32(bytes: bytes[at..<at + 4]), bytes: number(at + 4))
            return spent.bytes > 0 ? spent : nil
        }
    }
}
