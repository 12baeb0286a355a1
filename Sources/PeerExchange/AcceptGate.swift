internal import MeshKeys
internal import Synchronization

/// Counts accepted connections and holds their number down, so that strangers use up neither descriptors nor time: they have a share of
/// their own, within which the newest count, since a member proves itself in milliseconds.
final class AcceptGate: Sendable {
    /// Connections a second from one host that were closed without proof; further ones are closed at once.
    static let failuresPerSecond = 50
    /// Hosts whose failures are counted one by one in a second; further ones share one count.
    static let maxCountedHosts = 4_096

    private struct Counts {
        var all = 0
        var nextTicket: UInt64 = 0
        /// Connections that have not authenticated, oldest first.
        var unproven: [UInt64] = []
        var strangers: [[UInt8]: Int] = [:]
        var peers: [NodeID: Int] = [:]
        var evicted: Set<UInt64> = []
        var second: UInt64 = 0
        var failures: [[UInt8]: Int] = [:]
    }
    private let counts = Mutex(Counts())
    private let configuration: ExchangeConfiguration

    init(_ configuration: ExchangeConfiguration) { self.configuration = configuration }

    /// IPv6 hosts own a whole /64.
    private func group(_ address: NodeAddress) -> [UInt8] {
        address.isIPv6 && !address.isLoopback ? Array(address.ip.prefix(8)) : address.ip
    }

    /// - Returns: the connection's ticket, for the other calls; `nil` when it is to be closed at once.
    func enter(_ address: NodeAddress, now: UInt64) -> UInt64? {
        let group = group(address)
        return counts.withLock { counts in
            if now / 1_000_000_000 != counts.second { (counts.second, counts.failures) = (now / 1_000_000_000, [:]) }
            guard counts.all < configuration.maxConnections,
                counts.strangers[group, default: 0] < configuration.maxUnauthenticatedPerAddress,
                (counts.failures[group] ?? counts.failures[[]] ?? 0) < Self.failuresPerSecond
            else { return nil }
            if counts.unproven.count >= configuration.maxUnauthenticated {
                guard counts.evicted.count < configuration.maxUnauthenticated else { return nil }
                counts.evicted.insert(counts.unproven.removeFirst())
            }
            counts.all += 1
            counts.strangers[group, default: 0] += 1
            counts.nextTicket += 1
            counts.unproven.append(counts.nextTicket)
            return counts.nextTicket
        }
    }

    /// It has to make room for a newer one.
    func isEvicted(_ ticket: UInt64) -> Bool { counts.withLock { !$0.evicted.isEmpty && $0.evicted.contains(ticket) } }

    /// - Returns: `false` when the peer has too many connections; it still counts as entered until `leave`.
    func authenticate(_ ticket: UInt64, _ address: NodeAddress, as peer: NodeID) -> Bool {
        let group = group(address)
        return counts.withLock { counts in
            Self.drop(group, from: &counts.strangers)
            counts.unproven.removeAll { $0 == ticket }
            counts.evicted.remove(ticket)
            counts.peers[peer, default: 0] += 1
            return counts.peers[peer, default: 0] <= configuration.maxConnectionsPerPeer
        }
    }

    func leave(_ ticket: UInt64, _ address: NodeAddress, peer: NodeID?) {
        let group = group(address)
        counts.withLock { counts in
            counts.all -= 1
            if let peer { return Self.drop(peer, from: &counts.peers) }
            Self.drop(group, from: &counts.strangers)
            counts.unproven.removeAll { $0 == ticket }
            counts.evicted.remove(ticket)
            let place = counts.failures[group] != nil || counts.failures.count < Self.maxCountedHosts ? group : []
            counts.failures[place, default: 0] += 1
        }
    }

    private static func drop<K: Hashable>(_ key: K, from counts: inout [K: Int]) {
        let left = counts[key, default: 0] - 1
        counts[key] = left > 0 ? left : nil
    }
}

/// Hellos that were answered, so that none is answered twice in the life of the process. A recording of an earlier life gets one answer,
/// which its player cannot use.
final class HelloMemory: Sendable {
    /// Hellos of a generation; two are kept, so each hello is remembered for the next so many at least.
    static let generation = 4_096
    private struct Seen {
        var new: Set<[UInt8]> = []
        var old: Set<[UInt8]> = []
    }
    private let seen = Mutex(Seen())

    func contains(_ nonce: [UInt8]) -> Bool { seen.withLock { $0.new.contains(nonce) || $0.old.contains(nonce) } }

    /// - Returns: `false` when it was there.
    func insert(_ nonce: [UInt8]) -> Bool {
        seen.withLock { seen in
            guard !seen.new.contains(nonce), !seen.old.contains(nonce) else { return false }
            if seen.new.count >= Self.generation { (seen.old, seen.new) = (seen.new, []) }
            seen.new.insert(nonce)
            return true
        }
    }
}

/// Requests that a member may make: of a burst, and of so many a second after it. What is beyond is answered "busy".
final class RequestRates: Sendable {
    private struct Bucket {
        var tokens: Double
        var at: UInt64
        var saidAt: UInt64 = 0
    }
    private struct Key: Hashable {
        let peer: NodeID
        let isMessage: Bool
    }
    private let buckets = Mutex<[Key: Bucket]>([:])

    enum Verdict { case admitted, limited, limitedAndDueInLog }

    func take(_ peer: NodeID, isMessage: Bool, _ configuration: ExchangeConfiguration, now: UInt64) -> Verdict {
        let rate = Double(isMessage ? configuration.messagesPerSecond : configuration.chunksPerSecond)
        let burst = rate * ExchangeConfiguration.burstSeconds
        return buckets.withLock { buckets in
            let key = Key(peer: peer, isMessage: isMessage)
            if buckets[key] == nil, buckets.count >= ExchangeConfiguration.maxCountedPeers {
                // Those that could make a whole burst again need no memory.
                buckets = buckets.filter { now &- $0.value.at < UInt64(ExchangeConfiguration.burstSeconds * 1e9) }
            }
            var bucket = buckets[key] ?? Bucket(tokens: burst, at: now)
            if now > bucket.at { bucket.tokens = min(burst, bucket.tokens + Double(now - bucket.at) * 1e-9 * rate) }
            bucket.at = max(bucket.at, now)
            var verdict = Verdict.admitted
            if bucket.tokens >= 1 {
                bucket.tokens -= 1
            } else {
                let isDue = bucket.saidAt == 0 || now &- bucket.saidAt >= LogPause.length
                if isDue { bucket.saidAt = now }
                verdict = isDue ? .limitedAndDueInLog : .limited
            }
            buckets[key] = bucket
            return verdict
        }
    }
}
