internal import ChunkModel
internal import MeshKeys

/// Changes that lead from one version of a node's records to another.
struct ChangeSegment: Sendable {
    let from: UInt64
    let to: UInt64
    let changes: [UInt8]
}

/// What one node publishes: facts, and which flists it knows. The bitmaps stand in `ContentTable`, ordered by flist.
struct NodeContent: Sendable {
    /// Incarnation at the node's start; versions count from 0 in each epoch.
    let epoch: UInt64
    var version: UInt64 = 0
    var facts: [FactKey: [UInt8]] = [:]
    /// Short numbers that stand for flists in deltas; never used twice in an epoch.
    var slots: [UInt64: FlistDigest] = [:]
    /// Chunks of all flists: what the memory limit is reckoned by.
    var chunks = 0
    /// Its flists did not fit the memory limit: it is taken to hold nothing.
    var refused = false
    private(set) var log: [ChangeSegment] = []
    private var logBytes = 0

    init(epoch: UInt64) { self.epoch = epoch }

    /// Takes a contiguous segment into the log; the oldest ones give way.
    mutating func append(_ segment: ChangeSegment) {
        if let last = log.last, last.to != segment.from { clearLog() }
        log.append(segment)
        logBytes += segment.changes.count + 16
        var drop = 0
        while logBytes > GossipLimits.changeLogBytes, drop < log.count {
            logBytes -= log[drop].changes.count + 16
            drop += 1
        }
        if drop > 0 { log.removeFirst(drop) }
    }

    mutating func clearLog() {
        log = []
        logBytes = 0
    }

    /// The segments after `version`, or `nil` when the log does not reach back so far.
    func segments(since version: UInt64) -> ArraySlice<ChangeSegment>? {
        if version >= self.version { return log[log.endIndex...] }
        guard let first = log.firstIndex(where: { $0.to > version }), log[first].from <= version else { return nil }
        return log[first...]
    }
}

/// What one node holds of one flist.
struct FlistHolder: Sendable {
    let node: NodeID
    let slot: UInt64
    var isLive: Bool
    var bitmap: Bitmap
    /// Found missing by this node, until the holder announces them anew.
    var dropped: Set<Int> = []
    /// Chunks it is fetching, and when that claim lapses.
    var claims: [Int: UInt64] = [:]

    func holds(_ index: Int) -> Bool { bitmap.contains(index) && (dropped.isEmpty || !dropped.contains(index)) }
}
