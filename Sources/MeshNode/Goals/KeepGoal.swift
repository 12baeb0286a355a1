internal import ChunkModel
internal import Gossip

/// The site's standing goal for one flist: copies of every chunk that it keeps. Every node of the site that takes part remembers it and
/// tells it on, so that it outlives whoever set it.
struct KeepGoal: Equatable, Sendable {
    /// Counted up with each change, so that the latest one wins whatever the clocks say.
    var version: UInt64
    /// 0: the goal has ended. That is told on as well, for those that were away.
    var copies: UInt8

    var isActive: Bool { copies > 0 }

    /// Of two changes that did not know of each other the end wins, then the larger number.
    func supersedes(_ other: KeepGoal) -> Bool {
        (version, isActive ? 0 : 1, copies) > (other.version, other.isActive ? 0 : 1, other.copies)
    }
}

/// A goal as a node tells it (fact of kind 7, under the flist's digest).
struct GoalFact: Equatable, Sendable {
    var goal: KeepGoal
    /// The node has no room for further copies: others take its share.
    var isFull: Bool

    var encoded: [UInt8] { goal.version.bytes + [goal.copies, isFull ? 1 : 0] }

    init(goal: KeepGoal, isFull: Bool) { (self.goal, self.isFull) = (goal, isFull) }

    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 10 else { return nil }
        self.init(goal: KeepGoal(version: UInt64(bytes: bytes[0..<8]), copies: bytes[8]), isFull: bytes[9] & 1 == 1)
        guard (1...GoalBook.maxVersion).contains(goal.version) else { return nil }
    }
}

/// All goals that a node knows. A value: what is told goes in, what has changed comes out.
struct GoalBook: Equatable, Sendable {
    /// Goals in force; a further one is refused, or passed over when a peer tells it.
    static let maxActive = 32
    /// Ended ones that are remembered; the one with the lowest version goes first.
    static let maxEnded = 64
    /// Changes of one goal. A higher version is no honest one: nobody could change the goal any more.
    static let maxVersion: UInt64 = 1 << 48

    private(set) var goals: [FlistDigest: KeepGoal] = [:]

    init(_ goals: [FlistDigest: KeepGoal] = [:]) { for (digest, goal) in goals { _ = merge(goal, for: digest) } }

    var active: [FlistDigest: KeepGoal] { goals.filter(\.value.isActive) }

    /// A user's wish.
    ///
    /// - Parameter copies: 0 ends the goal.
    /// - Returns: `false` when there are too many; ending one that is not there changes nothing.
    mutating func set(_ copies: UInt8, for digest: FlistDigest) -> Bool {
        let known = goals[digest]
        if copies == 0, known?.isActive != true { return true }
        if known?.copies == copies { return true }
        return merge(KeepGoal(version: min((known?.version ?? 0) + 1, Self.maxVersion), copies: copies), for: digest)
    }

    /// What another node tells, or the last run left.
    ///
    /// - Returns: whether it is news, and taken in.
    mutating func merge(_ goal: KeepGoal, for digest: FlistDigest) -> Bool {
        guard (1...Self.maxVersion).contains(goal.version) else { return false }
        if let known = goals[digest], !goal.supersedes(known) { return false }
        if goal.isActive, goals[digest]?.isActive != true, active.count >= Self.maxActive { return false }
        goals[digest] = goal
        let ended = goals.filter { !$0.value.isActive }
        if ended.count > Self.maxEnded, let oldest = ended.min(by: { ($0.value.version, $0.key) < ($1.value.version, $1.key) }) {
            goals[oldest.key] = nil
        }
        return goals[digest] == goal
    }
}
