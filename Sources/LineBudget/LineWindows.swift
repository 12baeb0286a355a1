/// `upstream.windows`: what the line may carry at which hours of which days.
///
/// An entry is `DAYS HH:MM-HH:MM RATE`. DAYS is `daily`, or days and ranges of days with commas between (`mon-fri`, `sat,sun`, `fri-mon`);
/// 24:00 is the end of a day; a window whose end lies before its start goes on past midnight and belongs to the day on which it
/// begins; RATE is like `20mbit`, `off` or `unlimited`. Where several overlap, the lowest rate holds. The clock of the wall decides: the
/// hour that is left out in spring is no part of any window, the one that comes twice in autumn is so twice.
public struct LineWindows: Sendable, Hashable {
    /// More than a week has hours that anybody would tell apart.
    public static let maxEntries = 64
    /// What lies ahead is looked for this far: a week and a day see every window begin and end, whatever the clock does.
    static let horizonMinutes = 8 * 1440

    struct Window: Sendable, Hashable {
        /// Bit 0 is Monday.
        let days: UInt8
        let start: Int
        /// Above `start`, up to a day later.
        let end: Int
        let rate: LineRate

        func holds(_ time: LocalTime) -> Bool {
            func isDay(_ weekday: Int) -> Bool { days & (1 << UInt8(truncatingIfNeeded: weekday)) != 0 }
            if isDay(time.weekday), start..<end ~= time.minute { return true }
            return isDay((time.weekday + 6) % 7) && start..<end ~= time.minute + 1440
        }
    }

    /// Why an entry cannot be used: one line.
    public struct Fault: Error, Sendable, Hashable, CustomStringConvertible { public let description: String }

    let windows: [Window]
    public var isEmpty: Bool { windows.isEmpty }

    public init() { windows = [] }

    public init(_ entries: [String]) throws(Fault) {
        guard entries.count <= Self.maxEntries else { throw Fault(description: "takes at most \(Self.maxEntries) windows") }
        var windows: [Window] = []
        for entry in entries { windows.append(try Self.window(entry)) }
        self.windows = windows
    }

    /// What holds at `time`; `otherwise` where no window does.
    public func rate(at time: LocalTime, otherwise: LineRate) -> LineRate {
        windows.lazy.filter { $0.holds(time) }.map(\.rate).min() ?? otherwise
    }

    /// The first whole minute after `now` at which another rate holds; `nil` when none does within eight days.
    ///
    /// - Parameters:
    ///   - now: seconds since 1970.
    ///   - local: what the clock on the wall shows at such a moment.
    public func nextChange(after now: Int64, otherwise: LineRate, local: (Int64) -> LocalTime) -> Int64? {
        guard !windows.isEmpty, now >= 0 else { return nil }
        let current = rate(at: local(now), otherwise: otherwise)
        let first = now / 60
        for minute in 1...Int64(Self.horizonMinutes) {
            let moment = (first + minute) * 60
            if rate(at: local(moment), otherwise: otherwise) != current { return moment }
        }
        return nil
    }

    // MARK: Reading

    private static let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

    private static func window(_ entry: String) throws(Fault) -> Window {
        let parts = entry.split(whereSeparator: \.isWhitespace)
        guard parts.count == 3 else { throw fault(entry, "is not like \"mon-fri 22:00-06:00 20mbit\"") }
        guard let days = days(parts[0].lowercased()) else {
            throw fault(entry, "begins with \"daily\" or days such as mon-fri or sat,sun, not \"\(shown(parts[0]))\"")
        }
        let times = parts[1].split(separator: "-", omittingEmptySubsequences: false)
        guard times.count == 2, let start = minute(times[0]), var end = minute(times[1]), start < 1440 else {
            throw fault(entry, "takes hours such as 22:00-06:00, not \"\(shown(parts[1]))\"")
        }
        guard start != end else { throw fault(entry, "begins when it ends; a whole day is 00:00-24:00") }
        if end < start { end += 1440 }
        guard let rate = LineRate(parts[2]) else {
            throw fault(entry, "ends with a rate such as 20mbit (at least 8kbit), \"off\" or \"unlimited\", not \"\(shown(parts[2]))\"")
        }
        return Window(days: days, start: start, end: end, rate: rate)
    }

    private static func fault(_ entry: String, _ reason: String) -> Fault { Fault(description: "window \"\(shown(entry))\" \(reason)") }

    /// Fits a line, whatever it is.
    private static func shown(_ text: some StringProtocol) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.prefix(64).map { $0.isASCII && $0.value >= 32 && $0.value != 127 ? $0 : "?" }))
    }

    private static func days(_ text: String) -> UInt8? {
        if text == "daily" { return 0x7f }
        var days: UInt8 = 0
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false)
            guard (1...2).contains(ends.count), let first = names.firstIndex(of: String(ends[0])),
                let last = names.firstIndex(of: String(ends[ends.count - 1]))
            else { return nil }
            var day = first
            days |= 1 << UInt8(day)
            while day != last {
                day = (day + 1) % 7
                days |= 1 << UInt8(day)
            }
        }
        return days
    }

    /// `HH:MM`, up to 24:00.
    private static func minute(_ text: Substring) -> Int? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, (1...2).contains(parts[0].utf8.count), parts[1].utf8.count == 2,
            parts.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } }),
            let hours = UInt8(parts[0]), let minutes = UInt8(parts[1]), minutes < 60, hours < 24 || (hours == 24 && minutes == 0)
        else { return nil }
        return Int(hours) * 60 + Int(minutes)
    }
}
