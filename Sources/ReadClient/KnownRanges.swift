/// Ranges of a file that are known to be ready: few, since files are filled in long runs.
struct KnownRanges: Sendable {
    /// Ranges that are remembered; beyond, the daemon is asked again.
    static let maxRanges = 64

    private var ranges: [Range<UInt64>] = []

    mutating func add(_ new: Range<UInt64>) {
        var (start, end) = (new.lowerBound, new.upperBound)
        ranges.removeAll { old in
            guard old.lowerBound <= end, old.upperBound >= start else { return false }
            (start, end) = (min(start, old.lowerBound), max(end, old.upperBound))
            return true
        }
        if ranges.count == Self.maxRanges { ranges.removeFirst() }
        ranges.append(start..<end)
    }

    func contains(_ range: Range<UInt64>) -> Bool {
        range.isEmpty || ranges.contains { $0.lowerBound <= range.lowerBound && $0.upperBound >= range.upperBound }
    }
}
