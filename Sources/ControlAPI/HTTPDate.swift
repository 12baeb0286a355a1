/// Dates as HTTP writes them (RFC 9110 §5.6.7), without Foundation's formatters.
enum HTTPDate {
    private static let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    /// What four digits of a year can show: 0001-01-01 to 9999-12-31.
    private static let range: ClosedRange<Int64> = -62_135_596_800...253_402_300_799

    private struct Civil {
        var year, month, day, weekday, second: Int

        /// - Parameter seconds: since 1970; within `range`.
        init(_ seconds: Int64) {
            let (days, rest) = (Int(seconds) / 86400, Int(seconds) % 86400)
            let day = rest < 0 ? days - 1 : days
            second = rest < 0 ? rest + 86400 : rest
            // Days to a civil date, counted in eras of 400 years that begin in March.
            let z = day + 719_468
            let era = (z >= 0 ? z : z - 146_096) / 146_097
            let dayOfEra = z - era * 146_097
            let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
            let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
            let shifted = (5 * dayOfYear + 2) / 153
            self.day = dayOfYear - (153 * shifted + 2) / 5 + 1
            month = shifted < 10 ? shifted + 3 : shifted - 9
            year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
            weekday = ((day % 7) + 7) % 7
        }
    }

    /// The nearest time that the format can show.
    static func shown(_ seconds: Int64) -> Int64 { min(max(seconds, range.lowerBound), range.upperBound) }

    /// - Parameter seconds: since 1970; times that the format cannot show become the nearest that it can.
    static func format(_ seconds: Int64) -> String {
        let date = Civil(shown(seconds))
        let time = "\(two(date.second / 3600)):\(two(date.second / 60 % 60)):\(two(date.second % 60))"
        return "\(days[date.weekday]), \(two(date.day)) \(months[date.month - 1]) \(four(date.year)) \(time) GMT"
    }

    /// `2026-11-22 07:58`, as in listings.
    static func short(_ seconds: Int64) -> String {
        let date = Civil(shown(seconds))
        return "\(four(date.year))-\(two(date.month))-\(two(date.day)) \(two(date.second / 3600)):\(two(date.second / 60 % 60))"
    }

    /// Seconds since 1970 of a date in any of the three forms that are to be understood: `Sun, 06 Nov 1994 08:49:37 GMT`, the obsolete
    /// `Sunday, 06-Nov-94 08:49:37 GMT`, and asctime's `Sun Nov  6 08:49:37 1994`. `nil` is no date, to be passed over.
    static func parse(_ text: String) -> Int64? {
        guard text.utf8.count <= 40 else { return nil }
        let words = text.split { " ,-".contains($0) }
        let fields: (day: Substring, month: Substring, year: Substring, time: Substring)
        switch words.count {
        case 6 where words[5] == "GMT": fields = (words[1], words[2], words[3], words[4])
        case 5 where !text.contains(","): fields = (words[2], words[1], words[4], words[3])
        default: return nil
        }
        let clock = fields.time.split(separator: ":", omittingEmptySubsequences: false).map { digits($0, 2...2) }
        guard let day = digits(fields.day, 1...2), let month = months.firstIndex(of: String(fields.month)),
            var year = digits(fields.year, fields.year.utf8.count == 2 ? 2...2 : 4...4), clock.count == 3,
            let hour = clock[0], let minute = clock[1], let second = clock[2], (1...31).contains(day), hour < 24, minute < 60, second <= 60
        else { return nil }
        // Two digits: of this century and the next years of it, or of the one before (here up to 2069, as POSIX has it).
        if fields.year.utf8.count == 2 { year += year < 70 ? 2000 : 1900 }
        let since = Int64(dayNumber(year: year, month: month + 1, day: day)) * 86400 + Int64(hour * 3600 + minute * 60 + second)
        return shown(since)
    }

    /// Days since 1970.
    private static func dayNumber(year: Int, month: Int, day: Int) -> Int {
        let y = month <= 2 ? year - 1 : year
        let era = (y >= 0 ? y : y - 399) / 400
        let yearOfEra = y - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func digits(_ text: Substring, _ count: ClosedRange<Int>) -> Int? {
        guard count.contains(text.utf8.count), text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else {
            return nil
        }
        return Int(text)
    }

    private static func two(_ n: Int) -> String { n < 10 ? "0\(n)" : "\(n)" }
    private static func four(_ n: Int) -> String { String(repeating: "0", count: max(0, 4 - String(n).count)) + String(n) }
}
