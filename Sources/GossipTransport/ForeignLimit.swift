internal import MeshKeys

/// Keeps datagrams that don't open from costing more than so many tries a second for each source. Sources of which one opened in the
/// last minute are exempt, so that a forged sender address silences nobody.
struct ForeignLimit {
    static let triesPerSecond = 100
    /// Sources counted; when there are more in one second, those not known good are all counted as one.
    static let maxSources = 1_024
    static let goodFor: UInt64 = 60_000_000_000

    private var second: UInt64 = 0
    private var failed: [NodeAddress: Int] = [:]
    private var failedOthers = 0
    private var good: [NodeAddress: UInt64] = [:]

    mutating func allows(_ source: NodeAddress, now: UInt64) -> Bool {
        if now / 1_000_000_000 != second {
            second = now / 1_000_000_000
            failed = [:]
            failedOthers = 0
        }
        if let until = good[source], now < until { return true }
        return (failed[source] ?? (failed.count >= Self.maxSources ? failedOthers : 0)) < Self.triesPerSecond
    }

    mutating func noteFailed(_ source: NodeAddress) {
        if failed[source] != nil || failed.count < Self.maxSources { failed[source, default: 0] += 1 } else { failedOthers += 1 }
    }

    mutating func noteOpened(_ source: NodeAddress, now: UInt64) {
        if good.count >= 2 * Self.maxSources, good[source] == nil {
            good = good.filter { now < $0.value }
            if good.count >= 2 * Self.maxSources { return }
        }
        good[source] = now &+ Self.goodFor
    }
}
