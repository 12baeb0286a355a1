import Foundation
import Hummingbird
import Testing

@testable import ControlAPI

@Suite struct ByteRangeTests {
    @Test(
        arguments: [
            (nil, 10, .whole), ("bytes=0-0", 10, .part(0..<1)), ("bytes=0-", 10, .part(0..<10)), ("bytes=3-5", 10, .part(3..<6)),
            ("bytes=9-100", 10, .part(9..<10)), ("bytes=10-", 10, .unsatisfiable), ("bytes=-3", 10, .part(7..<10)),
            ("bytes=-30", 10, .part(0..<10)),
            ("bytes=-0", 10, .unsatisfiable), ("bytes=0-", 0, .unsatisfiable), ("bytes=-1", 0, .unsatisfiable), ("bytes=5-3", 10, .whole),
            ("items=0-1", 10, .whole), ("bytes=", 10, .whole), ("bytes=-", 10, .whole), ("bytes=a-b", 10, .whole),
            ("BYTES=1-2", 10, .part(1..<3)),
            ("bytes=18446744073709551615-18446744073709551615", 10, .unsatisfiable), ("bytes=0-18446744073709551615", 10, .part(0..<10)),
            ("bytes=18446744073709551616-", 10, .whole), ("bytes=0-1,3-4", 10, .whole), ("bytes=--1", 10, .whole),
            ("bytes=0--1", 10, .whole),
        ] as [(String?, UInt64, ByteRange)]) func header(header: String?, size: UInt64, expected: ByteRange)
    {
        #expect(ByteRange(header: header, size: size) == expected)
    }
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
