/// What the site has of a chunk that this cache holds, for the choice of what to evict. It rests on what the nodes announce, which is late by
/// the time that gossip takes; `ChunkStore+Evict.swift` says how that is made good.
public enum Custody: Sendable, Equatable {
    /// Enough others hold it, and they keep it.
    case redundant
    /// Enough others hold it, but none to spare: this one goes after it was withdrawn, and looked for again.
    case shared
    /// Others hold it, and this node is one of those that keep it.
    case kept
    /// Nobody else at the site holds it.
    case last

    /// All nodes of a site rank the holders of a chunk in the same way, and the first of them keep it: those that believe in each other do not
    /// both let go.
    ///
    /// - Parameters:
    ///   - rank: this node's place, from 0, among all holders; when it has withdrawn its announcement, the place that it would have.
    ///   - others: holders beside this one.
    ///   - copies: what the site shall hold, at least 1.
    ///   - isLeaving: this node no longer announces it, so that nobody counts on it any more.
    public static func judge(rank: Int, others: Int, copies: Int, isLeaving: Bool) -> Custody {
        let copies = max(1, copies)
        if others == 0 { return .last }
        if isLeaving { return others >= copies ? .redundant : .kept }
        if rank < copies { return .kept }
        return rank == copies ? .shared : .redundant
    }
}
