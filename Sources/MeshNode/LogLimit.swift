/// Keeps a line that comes over and over from filling the disk: a burst of it goes through, then one in each interval, with the number of
/// those that were left out. A value under a time that is given.
struct LogLimit: Sendable {
    /// Lines of one kind that go through within one interval before the rest are counted only.
    static let burst = 20
    /// Seconds of an interval.
    static let interval: Double = 10
    /// Kinds that are kept account of; the one seen longest ago is forgotten for a new one.
    static let maxKinds = 256

    private struct Kind: Sendable {
        var begun: Double
        var seen: Double
        var passed = 0
        var leftOut = 0
    }
    private var kinds: [String: Kind] = [:]

    /// - Returns: how many of its kind were left out since the last one that went through; `nil` when this one is left out too.
    mutating func admit(_ kind: String, now: Double) -> Int? {
        guard var known = kinds[kind] else {
            if kinds.count >= Self.maxKinds, let oldest = kinds.min(by: { $0.value.seen < $1.value.seen }) { kinds[oldest.key] = nil }
            kinds[kind] = Kind(begun: now, seen: now, passed: 1)
            return 0
        }
        known.seen = now
        if now - known.begun >= Self.interval || now < known.begun {
            // After a storm one line passes in each interval, until one was quiet.
            let wasStorm = known.leftOut > 0
            let leftOut = known.leftOut
            known = Kind(begun: now, seen: now, passed: wasStorm ? Self.burst : 1)
            kinds[kind] = known
            return leftOut
        }
        if known.passed < Self.burst { known.passed += 1 } else { known.leftOut += 1 }
        kinds[kind] = known
        return known.leftOut == 0 ? 0 : nil
    }

    /// What was left out of storms that are over, to be told once.
    mutating func ended(now: Double) -> [(kind: String, leftOut: Int)] {
        var out: [(String, Int)] = []
        for (kind, known) in kinds where known.leftOut > 0 && now - known.begun >= Self.interval {
            out.append((kind, known.leftOut))
            kinds[kind] = nil
        }
        return out.sorted { $0.0 < $1.0 }
    }
}
