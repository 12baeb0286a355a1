/// What the line to upstream may carry at one moment: nothing, so many bits a second, or whatever it can.
public struct LineRate: Sendable, Hashable, Comparable {
    public let bitsPerSecond: UInt64

    public init(bitsPerSecond: UInt64) { self.bitsPerSecond = bitsPerSecond }

    public static let off = LineRate(bitsPerSecond: 0)
    public static let unlimited = LineRate(bitsPerSecond: .max)

    public var isOff: Bool { self == .off }
    public var isUnlimited: Bool { self == .unlimited }
    public var bytesPerSecond: UInt64 { isUnlimited ? .max : bitsPerSecond / 8 }

    public static func < (a: Self, b: Self) -> Bool { a.bitsPerSecond < b.bitsPerSecond }

    /// Reads `20mbit`, `500kbit`, `off`, `unlimited`.
    ///
    /// - Returns: `nil` for anything else, for less than 8 kbit and for more than 1,000 gbit.
    public init?(_ text: some StringProtocol) {
        let text = text.lowercased()
        if text == "off" { self = .off; return }
        if text == "unlimited" { self = .unlimited; return }
        for (unit, factor) in [("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)] where text.hasSuffix(unit) {
            let digits = text.dropLast(unit.count)
            guard digits.utf8.allSatisfy({ (48...57).contains($0) || $0 == 46 }), let number = Double(digits) else { return nil }
            let value = number * factor
            guard value >= 8_000, value <= 1e12 else { return nil }
            bitsPerSecond = UInt64(value)
            return
        }
        return nil
    }
}

/// A moment as the clock on the wall shows it.
public struct LocalTime: Sendable, Hashable {
    public var year: Int
    /// 1 to 12, and 1 to 31.
    public var month: Int
    public var day: Int
    /// 0 is Monday.
    public var weekday: Int
    /// Minutes since midnight.
    public var minute: Int

    public init(year: Int, month: Int, day: Int, weekday: Int, minute: Int) {
        (self.year, self.month, self.day, self.weekday, self.minute) = (year, month, day, weekday, minute)
    }
}
