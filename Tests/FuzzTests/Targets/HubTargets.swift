@testable import HubServer

extension FuzzTarget {
    /// What stands in requests to `chunkmesh hub`: no path leads out of the directory.
    static let hubRequest = FuzzTarget(
        name: "hub-request", maxLength: 1_024,
        seeds: {
            let hex = String(repeating: "ab", count: 32)
            return ["/ab/\(hex)", "/\(hex)", "/name%20of.fl", "/..%2f", "bytes=0-99", "bytes=-5", "bytes=99999999999999999999-"]
                .map { [100, 0, 0, 0, 0, 0, 0, 0] + Array($0.utf8) }
        },
        run: { bytes in
            var input = FuzzInput(bytes)
            let size = Int(clamping: input.number(8))
            let text = String(decoding: input.all(), as: UTF8.self)
            if case .part(let range) = ByteRange(header: text, size: size) {
                fuzzCheck(!range.isEmpty && range.upperBound <= size, "a range outside the file")
            }
            for place in HubPath(text)?.places ?? [] {
                let parts = place.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
                fuzzCheck((1...2).contains(parts.count), "a place of \(parts.count) parts")
                for part in parts {
                    fuzzCheck(!part.isEmpty && part.count <= HubPath.maxNameBytes && part.first != UInt8(ascii: "."), "a name that is none")
                    fuzzCheck(!part.contains(0), "a name with a NUL")
                }
            }
        })
}
