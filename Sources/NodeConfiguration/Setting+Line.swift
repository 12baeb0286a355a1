internal import LineBudget

/// Values of the keys that speak of the line and of the LAN.
extension Setting {
    /// A list, or one text with semicolons between (as environment variables have it): days are listed with commas.
    func windows() throws(ValueError) -> LineWindows {
        let entries: [String]
        switch self {
        case .list(let items): entries = items
        case .text(let text): entries = text.split(separator: ";").map { String($0.trimmed) }.filter { !$0.isEmpty }
        }
        do throws(LineWindows.Fault) {
            return try LineWindows(entries)
        } catch {
            throw ValueError(reason: "\(error)")
        }
    }

    /// `50GiB`, or `50GiB from 15`: the accounting month begins on the 15th.
    func cap() throws(ValueError) -> LineCap {
        let parts = try text().split(separator: " ").map(String.init)
        var firstDay = 1
        if parts.count == 3, parts[1] == "from" {
            guard let day = Int(parts[2]), (1...28).contains(day) else {
                throw ValueError(reason: "takes a month that begins on day 1 to 28, as in \"50GiB from 15\"")
            }
            firstDay = day
        } else if parts.count != 1 {
            throw ValueError(reason: "takes a size such as 50GiB, or \"50GiB from 15\" for a month that begins on the 15th")
        }
        return LineCap(bytes: try Setting.text(parts[0]).bytes(atLeast: 1 << 20), firstDay: firstDay)
    }

    /// A slower one would let requests under way time out.
    func lanRate() throws(ValueError) -> UInt64 {
        let value = try? rate()
        guard let value, value >= 1_000_000 else { throw ValueError(reason: "takes a rate such as 100mbit, at least 1mbit") }
        return value
    }

    func lanMode() throws(ValueError) -> Configuration.LAN.Mode {
        guard let mode = Configuration.LAN.Mode(rawValue: try text()) else { throw ValueError(reason: "takes both, serve or fetch") }
        return mode
    }
}
