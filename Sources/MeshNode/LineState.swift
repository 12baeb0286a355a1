internal import ChunkModel
internal import ChunkStore
internal import Glibc
internal import LineBudget

/// `line.state`: what a node must remember of the line over its own end.
struct LineRecord: Equatable, Sendable {
    static let fileName = "line.state"
    static let version: UInt8 = 1
    static let maxBytes: Int64 = 4 << 20
    private static let headBytes = 18

    var pause = LinePause()
    var book = LineBook()

    init() {}

    /// `nil` for what this version did not write.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= Self.headBytes, bytes[0] == Self.version, let extent = LinePause.Extent(rawValue: bytes[1]),
            let book = LineBook(Array(bytes[Self.headBytes...]))
        else { return nil }
        pause = LinePause(
            version: UInt64(bytes: bytes[2..<10]), extent: extent, until: Int64(bitPattern: UInt64(bytes: bytes[10..<18])))
        self.book = book
    }

    var encoded: [UInt8] {
        [Self.version, pause.extent.rawValue] + pause.version.bytes + UInt64(bitPattern: pause.until).bytes + book.encoded
    }
}

/// The clock on the wall: only for hours, days and months, which people named; what is measured goes by `NodeClock`.
enum WallClock {
    /// Seconds since 1970.
    static var now: Int64 { Int64(time(nil)) }

    /// In the machine's time zone.
    static func local(_ seconds: Int64) -> LocalTime {
        var moment = time_t(seconds)
        var parts = tm()
        guard localtime_r(&moment, &parts) != nil else { return LocalTime(year: 1970, month: 1, day: 1, weekday: 3, minute: 0) }
        return LocalTime(
            year: Int(parts.tm_year) + 1900, month: Int(parts.tm_mon) + 1, day: Int(parts.tm_mday), weekday: (Int(parts.tm_wday) + 6) % 7,
            minute: Int(parts.tm_hour) * 60 + Int(parts.tm_min))
    }

    /// `14:05`, or `1 Dec 00:00` when that is more than 20 hours away.
    static func spoken(_ seconds: Int64, now: Int64) -> String {
        let time = local(seconds)
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let clock = "\(two(time.minute / 60)):\(two(time.minute % 60))"
        guard seconds - now > 20 * 3600 else { return clock }
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        return "\(time.day) \(months[min(max(time.month - 1, 0), 11)]) \(clock)"
    }

    /// The first moment of the accounting month after the one that `now` lies in.
    static func nextMonth(after now: Int64, firstDay: Int) -> Int64 {
        let time = local(now)
        var parts = tm()
        parts.tm_year = Int32(clamping: time.year - 1900)
        parts.tm_mon = Int32(clamping: time.month - 1 + (time.day >= firstDay ? 1 : 0))
        parts.tm_mday = Int32(clamping: firstDay)
        parts.tm_isdst = -1
        return Int64(mktime(&parts))
    }
}
