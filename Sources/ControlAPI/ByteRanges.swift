/// What a `Range` header asks for (RFC 9110 §14.1.2, §14.2).
enum ByteRanges: Equatable {
    /// Ranges that one request may name. More are answered with the whole, as the RFC allows: many small ones cost more than it.
    static let maxRanges = 64
    /// Ranges that are no further apart than the lines between two parts of an answer are long are sent as one (§15.3.7.2).
    static let gapBytes: UInt64 = 128

    case whole
    /// None is empty, none reaches behind the end, and none overlaps another; in the order in which they were asked for.
    case parts([Range<UInt64>])
    case unsatisfiable

    /// A header of another unit, one that is malformed anywhere, and one with too many ranges mean the whole.
    init(header: String?, size: UInt64) {
        self = .whole
        guard let header, header.utf8.prefix(6).elementsEqual("bytes=".utf8, by: { $0 | 0x20 == $1 | 0x20 }) else { return }
        var parts: [Range<UInt64>] = []
        var named = 0
        for element in header.utf8.dropFirst(6).split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
            let text = Self.trimmed(element)
            // Empty elements of a list count as none (§5.6.1.2).
            if text.isEmpty { continue }
            named += 1
            guard named <= Self.maxRanges, let spec = Self.range(text, size: size) else { return }
            if let range = spec { Self.add(range, to: &parts) }
        }
        guard named > 0 else { return }
        self = parts.isEmpty ? .unsatisfiable : .parts(parts)
    }

    /// `.some(nil)` is well-formed, but not of this file; `nil` is malformed.
    private static func range(_ text: Substring.UTF8View.SubSequence, size: UInt64) -> Range<UInt64>?? {
        guard let dash = text.firstIndex(of: UInt8(ascii: "-")) else { return nil }
        let (first, last) = (text[..<dash], text[text.index(after: dash)...])
        if first.isEmpty {
            guard let count = number(last) else { return nil }
            return .some(count == 0 || size == 0 ? nil : size - min(count, size)..<size)
        }
        guard let start = number(first) else { return nil }
        var end = size
        if !last.isEmpty {
            guard let stop = number(last), stop >= start else { return nil }
            end = stop < size ? stop + 1 : size
        }
        return .some(start >= size ? nil : start..<end)
    }

    /// Joined with those that it touches, at the place of the first of them.
    private static func add(_ range: Range<UInt64>, to parts: inout [Range<UInt64>]) {
        var range = range
        var place: Int?
        // Joined, it may reach others that it did not reach before.
        while let near = parts.firstIndex(where: { Self.areNear($0, range) }) {
            range = min(range.lowerBound, parts[near].lowerBound)..<max(range.upperBound, parts[near].upperBound)
            parts.remove(at: near)
            place = min(place ?? near, near)
        }
        parts.insert(range, at: place ?? parts.count)
    }

    private static func areNear(_ one: Range<UInt64>, _ other: Range<UInt64>) -> Bool {
        let (low, high) = one.lowerBound <= other.lowerBound ? (one, other) : (other, one)
        return high.lowerBound <= low.upperBound || high.lowerBound - low.upperBound <= gapBytes
    }

    /// Digits only; a number that is too large is the largest.
    private static func number(_ text: Substring.UTF8View.SubSequence) -> UInt64? {
        guard !text.isEmpty, text.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
        return UInt64(String(Substring(text))) ?? .max
    }

    private static func trimmed(_ text: Substring.UTF8View.SubSequence) -> Substring.UTF8View.SubSequence {
        let isBlank = { (byte: UInt8) in byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        var text = text.drop(while: isBlank)
        while let last = text.last, isBlank(last) { text.removeLast() }
        return text
    }
}
