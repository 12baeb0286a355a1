import Testing

@testable import LineBudget

/// Monday is 0.
private func at(_ weekday: Int, _ hour: Int, _ minute: Int = 0) -> LocalTime {
    LocalTime(year: 2026, month: 6, day: 1 + weekday, weekday: weekday, minute: hour * 60 + minute)
}

@Suite struct WindowTests {
    private let standing = LineRate(bitsPerSecond: 4_000_000)

    @Test func `outside all windows the standing rate holds, and where several overlap the lowest`() throws {
        let windows = try LineWindows(["mon-fri 22:00-06:00 20mbit", "sat,sun 00:00-24:00 8mbit", "daily 23:30-23:45 off"])
        func rate(_ time: LocalTime) -> UInt64 { windows.rate(at: time, otherwise: standing).bitsPerSecond }
        #expect(rate(at(0, 12)) == 4_000_000)
        #expect(rate(at(0, 21, 59)) == 4_000_000)
        #expect(rate(at(0, 22)) == 20_000_000)
        #expect(rate(at(0, 23, 30)) == 0)
        #expect(rate(at(0, 23, 45)) == 20_000_000)
        #expect(rate(at(1, 5, 59)) == 20_000_000)
        #expect(rate(at(1, 6)) == 4_000_000)
        // Monday's early hours belong to Sunday's evening, which has no such window.
        #expect(rate(at(0, 3)) == 4_000_000)
        // Friday's goes on into Saturday, where another one is lower.
        #expect(rate(at(5, 3)) == 8_000_000)
        #expect(rate(at(6, 23, 59)) == 8_000_000)
    }

    @Test(arguments: [
        ("daily 00:00-24:00 off", 6, 23, true), ("fri-mon 10:00-11:00 off", 0, 10, true), ("fri-mon 10:00-11:00 off", 1, 10, false),
        ("SUN 9:00-10:00 OFF", 6, 9, true), ("wed 23:00-01:00 off", 3, 0, true), ("wed 23:00-01:00 off", 2, 0, false),
        ("sun 23:00-01:00 off", 0, 0, true),
    ]) func days(entry: String, weekday: Int, hour: Int, holds: Bool) throws {
        #expect(try LineWindows([entry]).rate(at: at(weekday, hour), otherwise: .unlimited).isOff == holds)
    }

    @Test(arguments: [
        "", "daily", "daily 08:00-18:00", "daily 08:00-18:00 fast", "daily 08:00-08:00 off", "daily 24:00-06:00 off", "daily 8-18 off",
        "daily 08:60-09:00 off", "daily 25:00-26:00 off", "mon-funday 08:00-09:00 off", "mon,,tue 08:00-09:00 off", "mon- 08:00-09:00 off",
        "daily 08:00-18:00 1kbit", "daily 08:00-18:00 nanmbit", "daily 08:00-18:00 1e9mbit", "daily 08:00-18:00 -5mbit",
        "daily 08:00-18:00 8mbit more", "mon-tue-wed 08:00-09:00 off", "daily 08:00--09:00 off", "daily +8:00-09:00 off",
        "d\u{e4}ily 08:00-09:00 off", "mon 08:00:00-09:00 off",
    ]) func `nonsense is refused in one line`(entry: String) {
        #expect {
            try LineWindows([entry])
        } throws: {
            let line = "\($0)"
            return line.hasPrefix("window \"") && !line.contains("\n") && line.utf8.count < 300
        }
    }

    @Test func `no more windows than anybody needs`() {
        #expect(throws: LineWindows.Fault.self) { try LineWindows([String](repeating: "daily 08:00-18:00 off", count: 65)) }
    }

    /// A zone whose clock goes from 02:00 to 03:00 at hour 50 and back from 03:00 to 02:00 at hour 101.
    private func summer(_ seconds: Int64) -> LocalTime {
        let hour = seconds / 3600
        let local = seconds + (hour >= 50 && hour < 101 ? 3600 : 0)
        let day = local / 86_400
        return LocalTime(year: 2026, month: 3, day: 1 + Int(day), weekday: Int(day % 7), minute: Int(local % 86_400 / 60))
    }

    @Test func `the next change is found over nights, weeks and the change of clocks`() throws {
        /// Hours of UTC, to the next hour at which another rate holds.
        func change(_ entry: String, after hours: Int64) throws -> Int64? {
            let windows = try entry.isEmpty ? LineWindows() : LineWindows([entry])
            return windows.nextChange(after: hours * 3600 + 59, otherwise: standing, local: summer).map { $0 / 3600 }
        }
        let night = "daily 22:00-06:00 20mbit"
        let found = try [0, 6, 47, 95].map { try change(night, after: $0) }
        // The night in which the clock goes forward is an hour shorter; that in which it goes back, an hour longer.
        #expect(found == [6, 22, 53, 102])
        // The hour that is left out has no window.
        let gap = try change("daily 02:00-03:00 off", after: 27)
        #expect(gap == 73)
        let week = try change("sat 00:00-24:00 off", after: 0)
        #expect(week == 120)
        let none = try ["", "daily 00:00-24:00 off"].map { try change($0, after: 0) }
        #expect(none == [nil, nil])
    }
}

@Suite struct CapTests {
    private func date(_ year: Int, _ month: Int, _ day: Int) -> LocalTime {
        LocalTime(year: year, month: month, day: day, weekday: 0, minute: 0)
    }

    @Test func `the accounting month begins on the day that was named`() {
        let days = LineCap.days(of: date(2026, 1, 14), firstDay: 15)
        #expect(days.contains(LineCap.day(of: date(2025, 12, 15))))
        #expect(!days.contains(LineCap.day(of: date(2025, 12, 14))))
        #expect(!days.contains(LineCap.day(of: date(2026, 1, 15))))
        #expect(LineCap.days(of: date(2026, 3, 1)) == LineCap.day(of: date(2026, 3, 1))...LineCap.day(of: date(2026, 3, 1)))
        #expect(LineCap.day(of: date(.max, .max, .max)) > LineCap.day(of: date(2026, 1, 1)))
    }

    private func node(_ number: UInt8) -> [UInt8] { [UInt8](repeating: number, count: 32) }

    @Test func `books merge to the same in any order, and nothing is counted twice`() {
        var a = LineBook()
        var b = LineBook()
        a.add(100, by: node(1), day: 10)
        a.add(50, by: node(1), day: 11)
        b.add(7, by: node(2), day: 10)
        b.merge(node(1), day: 10, 60)
        var (ab, ba) = (a, b)
        ab.merge(b, today: 11)
        ba.merge(a, today: 11)
        ba.merge(a, today: 11)
        #expect(ab == ba)
        #expect(ab.bytes(in: 10...10) == 107)
        #expect(ab.bytes(in: 10...11) == 157)
        #expect(ab.bytes(of: node(1), in: 0...99) == 150)
        #expect(LineBook(ab.encoded) == ab)
    }

    @Test func `what others claim stays within bounds`() {
        var book = LineBook()
        for day in 0..<500 { book.merge(node(1), day: UInt32(day), 1) }
        #expect(book.entries[node(1)]?.count == LineBook.maxDays)
        book.merge(node(1), day: 499, .max)
        book.merge(node(2), day: 499, .max)
        #expect(book.bytes(in: 0...500) == .max)
        let before = book
        book.merge([1, 2, 3], day: 499, 5)
        // A day that no clock shows yet, from somebody else's book.
        var other = LineBook()
        other.merge(node(3), day: 4_000_000, 9)
        book.merge(other, today: 499)
        #expect(book == before)
        for number in 0..<5_000 {
            book.merge(Array(repeating: 0, count: 30) + [UInt8(number >> 8), UInt8(number & 255)], day: 499, 1)
        }
        #expect(book.entries.count == LineBook.maxNodes)
        #expect(LineBook(book.encoded) == book)
    }

    @Test func `bytes that are no book are refused`() {
        var book = LineBook()
        book.add(5, by: node(1), day: 3)
        let bytes = book.encoded
        #expect(LineBook([]) == LineBook())
        for count in 1..<bytes.count { #expect(LineBook(Array(bytes[..<count])) == nil) }
        #expect(LineBook(bytes + bytes) == nil)
        var generator = Seeded(state: 7)
        for _ in 0..<2_000 {
            var broken = bytes
            for _ in 0..<3 { broken[Int.random(in: broken.indices, using: &generator)] = .random(in: .min ... .max, using: &generator) }
            _ = LineBook(broken)
        }
    }

    @Test func `of two pauses the newer one holds everywhere`() {
        let first = LinePause().changed(to: .background, until: 100)
        let second = first.changed(to: .none, until: 0)
        #expect(first.merged(with: second) == second)
        #expect(second.merged(with: first) == second)
        // Two people at the same moment: the stricter one, on both sides.
        let other = LinePause().changed(to: .all, until: 50)
        #expect(first.merged(with: other) == other)
        #expect(other.merged(with: first) == other)
        #expect(first.extent(at: 99) == .background)
        #expect(first.extent(at: 100) == .none)
        #expect(LinePause(version: 1, extent: .all, until: 0).extent(at: .max) == .all)
    }
}

struct Seeded: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
