internal import ChunkModel
internal import Synchronization

/// Copies that the site keeps, for whoever must ask quickly: the cache does for each chunk that it might evict.
final class GoalTable: Sendable {
    private let table = Mutex<[FlistDigest: UInt8]>([:])

    func set(_ active: [FlistDigest: KeepGoal]) { table.withLock { $0 = active.mapValues(\.copies) } }

    /// 1 where there is no goal: the last copy is worth keeping anyway.
    func copies(of flist: FlistDigest) -> Int { table.withLock { Int($0[flist] ?? 1) } }
}
