import Foundation
import Hummingbird
import Testing

@testable import ControlAPI

@Suite struct ByteRangesTests {
    @Test(
        arguments: [
            (nil, 10, []), ("bytes=0-0", 10, [0..<1]), ("bytes=0-", 10, [0..<10]), ("bytes=3-5", 10, [3..<6]),
            ("bytes=9-100", 10, [9..<10]), ("bytes=-3", 10, [7..<10]), ("bytes=-30", 10, [0..<10]), ("bytes=5-3", 10, []),
            ("items=0-1", 10, []), ("bytes=", 10, []), ("bytes=-", 10, []), ("bytes=a-b", 10, []), ("BYTES=1-2", 10, [1..<3]),
            ("bytes=0-18446744073709551615", 10, [0..<10]), ("bytes=0-99999999999999999999", 10, [0..<10]), ("bytes=--1", 10, []),
            ("bytes=0--1", 10, []), ("bytes=+1-2", 10, []), ("bytes=1-2x", 10, []), ("bytes=1 -2", 10, []), ("bytes = 1-2", 10, []),
            ("bytes=-99999999999999999999", 10, [0..<10]), ("bytes= 1-2 ", 10, [1..<3]),
            // Several: apart, in the order that was asked for; what cannot be had is passed over.
            ("bytes=0-1,1000-1001", 5000, [0..<2, 1000..<1002]), ("bytes=1000-1001, 0-1", 5000, [1000..<1002, 0..<2]),
            ("bytes=0-1,,9000-", 5000, [0..<2]), ("bytes=,\t0-1,", 5000, [0..<2]), ("bytes=-1,0-0", 5000, [4999..<5000, 0..<1]),
            ("bytes=0-1,5-3", 5000, []), ("bytes=0-1,x", 5000, []),
            // Joined where they overlap, touch, or nearly do.
            ("bytes=0-9,5-20", 5000, [0..<21]), ("bytes=0-9,10-20", 5000, [0..<21]), ("bytes=0-9,100-110", 5000, [0..<111]),
            ("bytes=4000-4001,0-1,2000-2001,0-4500", 5000, [0..<4501]), ("bytes=0-,0-,0-", 5000, [0..<5000]),
            ("bytes=0-0,2000-2000,1000-1000,900-2100", 5000, [0..<1, 900..<2101]),
        ] as [(String?, UInt64, [Range<UInt64>])]) func header(header: String?, size: UInt64, expected: [Range<UInt64>])
    {
        #expect(ByteRanges(header: header, size: size) == (expected.isEmpty ? .whole : .parts(expected)), "\(header ?? "none")")
    }

    @Test(
        arguments: [
            ("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0), ("bytes=10-,20-30", 10),
            ("bytes=18446744073709551615-18446744073709551615", 10), ("bytes=18446744073709551616-", 10),
        ] as [(String, UInt64)]) func nothingOfTheFile(header: String, size: UInt64)
    { #expect(ByteRanges(header: header, size: size) == .unsatisfiable) }

    @Test func tooManyAreTheWhole() {
        func header(_ count: Int) -> String { "bytes=" + (0..<count).map { "\($0 * 1000)-\($0 * 1000)" }.joined(separator: ",") }
        #expect(ByteRanges(header: header(ByteRanges.maxRanges + 1), size: 1 << 20) == .whole)
        guard case .parts(let parts) = ByteRanges(header: header(ByteRanges.maxRanges), size: 1 << 20) else {
            Issue.record("not in parts")
            return
        }
        #expect(parts.count == ByteRanges.maxRanges)
    }

    /// Whatever is asked for: the bytes are those of the ranges named, and what lies between joined ones.
    @Test func partsAreWhatWasAskedFor() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<500 {
            let wanted = (0..<Int.random(in: 1...12)).map { _ in
                let start = UInt64.random(in: 0..<4000, using: &generator)
                return start..<start + UInt64.random(in: 1...600, using: &generator)
            }
            let header = "bytes=" + wanted.map { "\($0.lowerBound)-\($0.upperBound - 1)" }.joined(separator: ",")
            guard case .parts(let parts) = ByteRanges(header: header, size: 5000) else {
                Issue.record("\(header)")
                return
            }
            let covered = Set(parts.flatMap { Array($0) })
            #expect(covered.count == parts.reduce(0) { $0 + $1.count }, "overlap: \(header)")
            #expect(wanted.allSatisfy { $0.allSatisfy { $0 >= 5000 || covered.contains($0) } }, "\(header)")
        }
    }
}

@Suite struct EntityTagsTests {
    @Test(
        arguments: [
            ("\"a\"", true, true), ("W/\"a\"", true, false), ("*", true, true), (" * ", true, true), ("\"b\", \"a\"", true, true),
            ("\"b\",W/\"a\"", true, false), ("\"b,\"a\"", false, false), ("a", false, false), ("\"a", false, false), ("", false, false),
            ("\"A\"", false, false), ("w/\"a\"", false, false), (",, \"a\"", true, true), ("\"b\" \"a\"", true, true),
            ("*, \"b\"", false, false),
            ("W/", false, false), ("\"", false, false),
        ]) func list(text: String, weakly: Bool, strongly: Bool)
    {
        #expect(EntityTags.list(text, names: "\"a\"", weakly: true) == weakly, "\(text)")
        #expect(EntityTags.list(text, names: "\"a\"", weakly: false) == strongly, "\(text)")
    }
}

@Suite struct ContentTypeTests {
    @Test(arguments: [
        ("/a/index.HTML", "text/html; charset=utf-8"), ("/x.tar.gz", "application/gzip"), ("/lib.so", "application/octet-stream"),
        ("/no", "application/octet-stream"), ("/dot.", "application/octet-stream"), ("/a.json/b", "application/octet-stream"),
        ("/.png", "image/png"),
    ]) func byName(path: String, type: String) { #expect(ContentType.of(Array(path.utf8)) == type) }
}

@Suite struct HTTPDateTests {
    @Test(
        arguments: [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (-1, "Wed, 31 Dec 1969 23:59:59 GMT"), (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (Int64.max, "Fri, 31 Dec 9999 23:59:59 GMT"), (Int64.min, "Mon, 01 Jan 0001 00:00:00 GMT"),
        ] as [(Int64, String)]) func shown(seconds: Int64, expected: String)
    { #expect(HTTPDate.format(seconds) == expected) }

    @Test(
        arguments: [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777), ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
            ("Sun Nov  6 08:49:37 1994", 784_111_777), ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Wed, 31 Dec 1969 23:59:59 GMT", -1), ("Mon, 01 Jan 0001 00:00:00 GMT", -62_135_596_800),
            ("Thursday, 01-Jan-70 00:00:00 GMT", 0), ("", nil), ("yesterday", nil), ("Sun, 06 Nov 1994 08:49:37", nil),
            ("Sun, 06 Nov 1994 25:49:37 GMT", nil), ("Sun, 32 Nov 1994 08:49:37 GMT", nil), ("Sun, 06 Now 1994 08:49:37 GMT", nil),
            ("Sun, 06 Nov 1994 08:49 GMT", nil), ("Sun, 06 Nov 99999 08:49:37 GMT", nil), ("784111777", nil),
            ("Sun, +6 Nov 1994 08:49:37 GMT", nil),
        ] as [(String, Int64?)]) func read(text: String, seconds: Int64?)
    { #expect(HTTPDate.parse(text) == seconds, "\(text)") }

    @Test func whatIsShownIsRead() {
        for seconds in stride(from: Int64(-62_135_596_800), to: 253_402_300_799, by: 97_654_321_987) {
            #expect(HTTPDate.parse(HTTPDate.format(seconds)) == seconds)
        }
        #expect(HTTPDate.short(784_111_777) == "1994-11-06 08:49")
    }

    @Test func agreesWithFoundation() {
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.timeZone = TimeZone(identifier: "GMT")
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        for seconds in stride(from: Int64(-2_000_000_000), to: 20_000_000_000, by: 97_654_321) {
            #expect(HTTPDate.format(seconds) == formatter.string(from: Date(timeIntervalSince1970: Double(seconds))))
        }
    }
}

@Suite struct RequestPathTests {
    @Test(arguments: [
        ("/v1/flists/a/tree/usr/bin", "/usr/bin"), ("/v1/flists/a/tree/", "/"), ("/v1/flists/a/tree", ""), ("/v1", ""), ("", ""),
        ("/v1/flists/a%2Fb/tree/x%20y", "/x y"), ("/v1/flists/a/tree//x", "//x"),
    ]) func part(path: String, expected: String) { #expect(RequestPath.bytes(of: path, after: 4) == Array(expected.utf8)) }

    @Test(arguments: ["/%", "/%4", "/%zz", "/a%f"]) func brokenEscapes(path: String) {
        #expect(RequestPath.bytes(of: path, after: 0) == nil)
    }

    @Test func everyByteCanBeNamed() {
        let text = "/" + (0...255).map { "%" + String(0x100 + $0, radix: 16).suffix(2) }.joined()
        #expect(RequestPath.bytes(of: text, after: 0) == [UInt8(ascii: "/")] + Array(0...255))
    }
}

@Suite struct LocalOnlyTests {
    @Test(arguments: ["localhost", "localhost:7947", "127.0.0.1", "127.0.0.1:1", "[::1]:7947", "", "10.1.2.3:80"])
    func addresses(authority: String) { #expect(LocalOnly<BasicRequestContext>.isAddress(authority)) }

    @Test(arguments: ["evil.example", "evil.example:7947", "127.0.0.1.evil.example", "1.2.3", "localhost.evil"])
    func names(authority: String) { #expect(!LocalOnly<BasicRequestContext>.isAddress(authority)) }
}
