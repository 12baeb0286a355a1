/// A shaped line: all transfers under way share its rate alike.
final class SwarmUplink {
    struct Transfer {
        let key: Int
        /// Bytes that each transfer on the line had got, in sum over its life, when this one is complete.
        let endsAt: Double
        let startedAt: Double
    }

    let rate: Double
    private(set) var bytes: Double = 0
    private(set) var transfers: [Transfer] = []
    private var shareSoFar: Double = 0
    private var updated: Duration = .zero
    private var nextKey = 0
    private(set) var version = 0

    init(bytesPerSecond: Double) { rate = bytesPerSecond }

    func advance(to now: Duration) {
        let seconds = (now - updated) / .seconds(1)
        updated = now
        guard !transfers.isEmpty else { return }
        shareSoFar += seconds * rate / Double(transfers.count)
        bytes += seconds * rate
    }

    func begin(size: Double, now: Duration) -> Int {
        advance(to: now)
        nextKey += 1
        version += 1
        transfers.append(Transfer(key: nextKey, endsAt: shareSoFar + size, startedAt: shareSoFar))
        return nextKey
    }

    func stop(_ key: Int, now: Duration) {
        advance(to: now)
        version += 1
        transfers.removeAll { $0.key == key }
    }

    /// The transfer that ends next, and when.
    func nextEnd(now: Duration) -> (key: Int, at: Duration)? {
        guard let first = transfers.min(by: { $0.endsAt < $1.endsAt }) else { return nil }
        let seconds = max(0, first.endsAt - shareSoFar) * Double(transfers.count) / rate
        return (first.key, now + .nanoseconds(Int64(seconds * 1e9) + 1))
    }
}
