@testable import ControlAPI
import Hummingbird

extension FuzzTarget {
    /// What stands in requests to a node's API: a Range header, a path with escapes, an authority.
    static let apiRequest = FuzzTarget(
        name: "api-request", maxLength: 1_024,
        seeds: {
            [
                "bytes=0-99", "bytes=-5", "bytes=7-", "bytes=18446744073709551615-18446744073709551615", "/v1/flists/a%2fb/files/x%ff/y",
                "[::1]:7947",
            ]
            .map { [100, 0, 0, 0, 0, 0, 0, 0] + Array($0.utf8) }
        },
        run: { bytes in
            var input = FuzzInput(bytes)
            let size = input.number(8)
            let rest = input.all()
            let text = String(decoding: rest, as: UTF8.self)
            if case .part(let range) = ByteRange(header: text, size: size) {
                fuzzCheck(!range.isEmpty && range.upperBound <= size, "a range outside the file")
            }
            for segments in 0...5 { _ = RequestPath.bytes(of: text, after: segments) }
            if let decoded = RequestPath.decode(rest) { fuzzCheck(decoded.count <= rest.count, "escapes that grow") }
            _ = LocalOnly<BasicRequestContext>.isAddress(text)
            fuzzCheck(HTTPDate.format(Int64(bitPattern: size)).utf8.count == 29, "a date of another length")
        })
}
