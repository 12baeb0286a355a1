/// What this node has learnt about one peer as a source.
struct PeerLoad: Sendable {
    /// Chunks asked for with `ifHeld` and not yet received.
    var transfers = 0
    /// Chunks that this peer, as owner, fetches for us.
    var waits = 0
    /// Smoothed time from asking to having one chunk, with one request under way.
    var chunkTime: Duration = .milliseconds(20)
    /// Not asked before this time: it was busy, or it failed.
    var restUntil: Duration = .zero
    var failures = 0
    /// Wrong bytes within the current count; shunned when it reaches the limit.
    var offences = 0
    var shunnedUntil: Duration = .zero

    func isUsable(at now: Duration) -> Bool { now >= restUntil && now >= shunnedUntil }

    /// When a further request would probably be answered, counted from now.
    var expectedWait: Duration { chunkTime * (transfers + 1) }

    mutating func noteAnswer(after elapsed: Duration) {
        let one = elapsed / max(1, transfers)
        chunkTime = (chunkTime * 7 + one) / 8
        failures = 0
    }
}
