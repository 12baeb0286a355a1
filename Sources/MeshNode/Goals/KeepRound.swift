internal import ChunkModel
internal import FetchPlanner
internal import Gossip
internal import MeshKeys

/// One look at a goal: what the site has, and what of the lack falls to this node. A value of what is known at one moment; every node that
/// knows the same comes to the same answer, so that each chunk is copied by as many as lack and no more.
struct KeepRound: Sendable {
    /// A node of the site that takes part.
    struct Holder: Sendable {
        let node: NodeID
        let bitmap: Bitmap?
        /// It can take no further copies: no room, or not the flist.
        var isFull = false
    }

    /// Chunks that one round gives to a node at most; the next round follows at once.
    static let maxShare = 256

    let copies: Int
    let holders: [Holder]
    /// Live copies of each chunk.
    let counts: [UInt8]

    init(copies: Int, chunkCount: Int, holders: [Holder]) {
        (self.copies, self.holders) = (copies, holders)
        var counts = [UInt8](repeating: 0, count: chunkCount)
        for holder in holders {
            guard let bitmap = holder.bitmap, bitmap.count == chunkCount else { continue }
            for run in bitmap.runs { for index in run { counts[index] = counts[index] == .max ? .max : counts[index] + 1 } }
        }
        self.counts = counts
    }

    /// Copies that can be had: no more than there are nodes.
    var wanted: Int { min(copies, holders.count { $0.bitmap != nil || !$0.isFull }) }
    var keptChunks: Int { counts.count { Int($0) >= wanted } }
    var minCopies: Int { Int(counts.min() ?? 0) }

    /// One bit for each chunk that has fewer copies than can be had.
    var short: [UInt64] {
        var words = [UInt64](repeating: 0, count: (counts.count + 63) / 64)
        for (index, count) in counts.enumerated() where Int(count) < wanted { words[index >> 6] |= 1 << UInt64(index & 63) }
        return words
    }

    /// Which chunks this node is to get: those that it stands first for among the nodes that do not hold them and have room. What is late goes
    /// to the next in the ranking too.
    func share(of me: NodeID, chunks: [ChunkID], due: [UInt64], late: [UInt64], limit: Int = KeepRound.maxShare) -> [Int] {
        var out: [Int] = []
        for (word, bits) in due.enumerated() where bits != 0 {
            for bit in 0..<64 where bits >> UInt64(bit) & 1 == 1 {
                let index = word << 6 + bit
                guard index < chunks.count, index < counts.count else { continue }
                let able = holders.filter { !($0.bitmap?.contains(index) ?? false) && !$0.isFull }.map(\.node)
                let isLate = word < late.count && late[word] >> UInt64(bit) & 1 == 1
                let lack = max(0, wanted - Int(counts[index])) + (isLate ? 1 : 0)
                if Rendezvous.ranking(of: chunks[index], among: able).prefix(lack).contains(me) { out.append(index) }
                if out.count == limit { return out }
            }
        }
        return out
    }
}
