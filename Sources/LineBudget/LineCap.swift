/// `upstream.monthlyCap`: bytes that the whole site may pull in one accounting month.
public struct LineCap: Sendable, Hashable {
    public var bytes: UInt64
    /// Day of the month on which the accounting month begins, at 00:00 local time: 1 to 28.
    public var firstDay: Int

    public init(bytes: UInt64, firstDay: Int = 1) { (self.bytes, self.firstDay) = (bytes, firstDay) }

    /// The days of the accounting month that `time` lies in, up to that day.
    public static func days(of time: LocalTime, firstDay: Int = 1) -> ClosedRange<UInt32> {
        var start = time
        start.day = firstDay
        if time.day < firstDay { (start.year, start.month) = time.month == 1 ? (time.year - 1, 12) : (time.year, time.month - 1) }
        return day(of: start)...max(day(of: start), day(of: time))
    }

    /// The day that `time` lies in: a number that grows from day to day, though not always by one.
    public static func day(of time: LocalTime) -> UInt32 {
        let months = min(max(time.year, 0), 9_999) * 12 + min(max(time.month, 1), 12) - 1
        return UInt32(months * 32 + min(max(time.day, 1), 31))
    }
}

/// Bytes that the nodes of a site pulled through the line, each counted by the node that pulled it: for each node and day a counter that
/// only grows. Any two books merge to what both know, in whatever order and however often.
public struct LineBook: Sendable, Equatable {
    /// Nodes that are remembered; further ones are counted in none of the sums.
    public static let maxNodes = 2_048
    /// Days that are remembered of one node, the last ones: more than the longest accounting month.
    public static let maxDays = 40
    /// A node of the site, by the bytes of its identity.
    public typealias Node = [UInt8]
    static let nodeBytes = 32

    public private(set) var entries: [Node: [UInt32: UInt64]] = [:]

    public init() {}

    public mutating func add(_ bytes: UInt64, by node: Node, day: UInt32) {
        guard bytes > 0 else { return }
        merge(node, day: day, (entries[node]?[day] ?? 0).addingClamped(bytes))
    }

    /// Takes in what another knows of a node.
    ///
    /// - Returns: whether it was new.
    @discardableResult
    public mutating func merge(_ node: Node, day: UInt32, _ bytes: UInt64) -> Bool {
        guard bytes > 0, node.count == Self.nodeBytes, entries[node] != nil || entries.count < Self.maxNodes else { return false }
        var days = entries[node] ?? [:]
        guard bytes > days[day] ?? 0 else { return false }
        days[day] = bytes
        if days.count > Self.maxDays, let oldest = days.keys.min() {
            days[oldest] = nil
            if oldest == day { return false }
        }
        entries[node] = days
        return true
    }

    /// - Parameter today: days that lie further ahead than the clocks of two machines may differ are not believed.
    @discardableResult
    public mutating func merge(_ other: LineBook, today: UInt32) -> Bool {
        var isNew = false
        for (node, days) in other.entries.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            for (day, bytes) in days where day <= today &+ 2 && merge(node, day: day, bytes) { isNew = true }
        }
        return isNew
    }

    public func bytes(in days: ClosedRange<UInt32>) -> UInt64 {
        entries.values.reduce(0) { $0.addingClamped(Self.sum($1, days)) }
    }

    public func bytes(of node: Node, in days: ClosedRange<UInt32>) -> UInt64 { Self.sum(entries[node] ?? [:], days) }

    private static func sum(_ counts: [UInt32: UInt64], _ days: ClosedRange<UInt32>) -> UInt64 {
        counts.reduce(0) { days.contains($1.key) ? $0.addingClamped($1.value) : $0 }
    }

    // MARK: As bytes

    /// The same book gives the same bytes: for each node its identity, the number of its days, and day and bytes of each.
    public var encoded: [UInt8] {
        var out: [UInt8] = []
        for (node, days) in entries.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            out += node
            out.append(UInt8(clamping: days.count))
            for (day, bytes) in days.sorted(by: { $0.key < $1.key }) { out += Self.bigEndian(day) + Self.bigEndian(bytes) }
        }
        return out
    }

    /// `nil` for what is no book.
    public init?(_ bytes: [UInt8]) {
        var at = 0
        while at < bytes.count {
            guard bytes.count - at > Self.nodeBytes else { return nil }
            let node = Array(bytes[at..<at + Self.nodeBytes])
            let count = Int(bytes[at + Self.nodeBytes])
            at += Self.nodeBytes + 1
            guard count <= Self.maxDays, bytes.count - at >= count * 12, entries[node] == nil, entries.count < Self.maxNodes else {
                return nil
            }
            for _ in 0..<count {
                merge(node, day: Self.number(bytes[at..<at + 4]), Self.number(bytes[at + 4..<at + 12]))
                at += 12
            }
        }
    }

    private static func bigEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
        (0..<T.bitWidth / 8).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }

    private static func number<T: FixedWidthInteger>(_ bytes: ArraySlice<UInt8>) -> T {
        bytes.reduce(0) { $0 << 8 | T(truncatingIfNeeded: $1) }
    }
}
