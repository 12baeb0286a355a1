/// What this node has learnt about one peer as a source.
struct PeerLoad: Sendable {
    /// Chunks asked for with `ifHeld` or `site` and not yet received.
    var transfers = 0
    /// Chunks that this peer, as owner, fetches for us.
    var waits = 0
    /// Smoothed time from asking to having one chunk, with one request under way.
    var chunkTime: Duration = .milliseconds(20)
    /// Not asked before this time, since it failed.
    var restUntil: Duration = .zero
    /// Not asked before this time, since it was busy. It is waited for: going elsewhere would fetch twice.
    var busyUntil: Duration = .zero
    /// The first "busy" since it last sent a chunk.
    var busySince: Duration?
    /// When it last sent a chunk.
    var lastReceived: Duration = .zero
    /// When `chunkTime` was measured last.
    var measuredAt: Duration?
    /// It speaks for another site: how much is asked of it at a time is shared out among the nodes of this site, as upstream is.
    var isOfOtherSite = false
    var failures = 0
    /// Wrong bytes within the current count; shunned when it reaches the limit.
    var offences = 0
    var shunnedUntil: Duration = .zero

    /// Wants that it could deliver and that wait for one of its transfers, and for one of its places as owner.
    var transferLine = Line()
    var waitLine = Line()

    enum State { case usable, busy, unusable }

    /// - Parameter patience: how long a peer may be busy without sending anything before it counts as failed.
    func state(at now: Duration, patience: Duration) -> State {
        if now < restUntil || now < shunnedUntil { return .unusable }
        guard now < busyUntil else { return .usable }
        return now - (busySince ?? now) > patience ? .unusable : .busy
    }

    /// When a further request would probably be answered, counted from now.
    var expectedWait: Duration { chunkTime * (transfers + 1) }

    /// - Parameters:
    ///   - transferSince: when it was asked for a chunk that it held; `nil` when it had to fetch it first.
    ///   - sharing: requests that shared the line with it, itself included; `nil`: those to this peer.
    mutating func noteReceived(transferSince: Duration?, sharing: Int? = nil, now: Duration) {
        if let transferSince {
            let one = max(.zero, now - transferSince) / max(1, sharing ?? transfers)
            // The first of a while says more than what was assumed or long ago.
            let isOld = isOfOtherSite && (measuredAt.map { now - $0 > .seconds(60) } ?? true)
            chunkTime = isOld ? one : (chunkTime * 7 + one) / 8
            measuredAt = now
        }
        (failures, busySince, lastReceived) = (0, nil, now)
    }
}
