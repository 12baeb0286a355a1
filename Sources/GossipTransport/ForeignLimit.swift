internal import MeshKeys

/// Keeps datagrams from costing more than they may: those that don't open a try of every key, those that do the machine's work.
///
/// A source (address and port) that proved that it lives at its address and holds a key is known for a minute after its last datagram.
/// Hosts (IPv4 addresses, IPv6 networks of 64 bits) of which nothing is known have so many tries a second, each and all together. A
/// known source is never silenced by what others send in its name: when too much of it does not open, one try is left, with the key
/// that its own datagrams opened with.
struct ForeignLimit {
    /// Datagrams of one unknown host a second that are tried and did not open, or did not prove where they came from.
    static let triesPerSecond = 100
    /// The same for all unknown hosts together.
    static let allTriesPerSecond = 2_000
    /// Hosts counted one by one in a second; further ones share the count of all.
    static let maxHosts = 1_024
    /// Known sources; while there are as many, no further one is remembered, and counts as unknown.
    static let maxKnown = 4_096
    static let knownFor: UInt64 = 60_000_000_000
    /// A source that sent under the key that seals here has it for this long at least.
    static let keyFor: UInt64 = 10_000_000_000

    enum Verdict: Equatable {
        case tryAll
        /// With this key only.
        case tryOne(MeshKeyFingerprint)
        case drop
        /// A known source sends too much.
        case flood
    }
    private struct Known {
        var until: UInt64
        var key: MeshKeyFingerprint
        /// When each key was used last; a ring has few.
        var keys: [MeshKeyFingerprint: UInt64] = [:]
        var second: UInt64 = 0
        var failed = 0
        var accepted = 0

        mutating func enter(_ second: UInt64) {
            if self.second != second { (self.second, failed, accepted) = (second, 0, 0) }
        }
    }

    /// Datagrams taken in of one known source a second; the rest is dropped.
    let acceptedPerSecond: Int
    private var second: UInt64 = 0
    private var failed: [[UInt8]: Int] = [:]
    private var failedOfAll = 0
    private var known: [NodeAddress: Known] = [:]

    init(acceptedPerSecond: Int = 4_000) { self.acceptedPerSecond = acceptedPerSecond }

    mutating func verdict(on source: NodeAddress, now: UInt64) -> Verdict {
        let current = now / 1_000_000_000
        if current != second { (second, failed, failedOfAll) = (current, [:], 0) }
        if var one = known[source], now < one.until {
            one.enter(current)
            known[source] = one
            if one.accepted >= acceptedPerSecond { return .flood }
            return one.failed < Self.triesPerSecond ? .tryAll : .tryOne(one.key)
        }
        return failedOfAll < Self.allTriesPerSecond && failed[Self.host(source), default: 0] < Self.triesPerSecond ? .tryAll : .drop
    }

    /// It did not open, or was held back.
    mutating func noteFailed(_ source: NodeAddress) {
        if known[source] != nil {
            known[source]?.failed += 1
            return
        }
        failedOfAll += 1
        let host = Self.host(source)
        if failed[host] != nil || failed.count < Self.maxHosts { failed[host, default: 0] += 1 }
    }

    /// It opened, and came from where it says.
    mutating func noteAccepted(_ source: NodeAddress, key: MeshKeyFingerprint, now: UInt64) {
        if known[source] == nil, known.count >= Self.maxKnown {
            known = known.filter { now < $0.value.until }
            if known.count >= Self.maxKnown { return }
        }
        var one = known[source] ?? Known(until: 0, key: key)
        one.enter(now / 1_000_000_000)
        (one.until, one.key) = (now &+ Self.knownFor, key)
        one.keys[key] = now
        if one.keys.count > MeshKeyRing.maxKeys { one.keys = [key: now] }
        one.accepted += 1
        known[source] = one
    }

    /// The key that a source uses which has not shown of late that it has the one that seals here: it may have been away in a rotation.
    func olderKey(of source: NodeAddress, sealing: MeshKeyFingerprint, now: UInt64) -> MeshKeyFingerprint? {
        guard let one = known[source], one.key != sealing, now < one.until else { return nil }
        if let last = one.keys[sealing], now < last &+ Self.keyFor { return nil }
        return one.key
    }

    /// An IPv6 host owns a whole /64.
    private static func host(_ address: NodeAddress) -> [UInt8] {
        address.isIPv6 && !address.isLoopback ? Array(address.ip.prefix(8)) : address.ip
    }
}
