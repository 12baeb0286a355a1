internal import BlockCodec
internal import ChunkModel

/// Which blocks of an flist were seen, and how long each turned out to be: 20 bytes for each place, of which at most three quarters are
/// taken. Blocks are told apart by 128 bits of keyed hashes instead of their ids and keys.
struct BlockTable {
    private struct Print: Equatable {
        var a: UInt64
        var b: UInt64
        static let none = Print(a: 0, b: 0)
    }

    private var prints: [Print]
    /// 0: not known; otherwise the length plus one.
    private var lengths: [UInt32]
    private let seeds: (UInt64, UInt64)
    private(set) var count = 0

    init() {
        prints = Array(repeating: .none, count: 1024)
        lengths = Array(repeating: 0, count: 1024)
        // What an flist holds may have been chosen to collide.
        seeds = (.random(in: .min ... .max), .random(in: .min ... .max))
    }

    /// - Returns: `true` when the block was not there.
    mutating func insert(_ ref: BlockRef) -> Bool { insert(print(ref.id, ref.key)) }
    /// The same for a chunk, whatever its key.
    mutating func insert(_ id: ChunkID) -> Bool { insert(print(id, nil)) }

    mutating func setLength(_ length: Int, of ref: BlockRef) {
        let place = place(print(ref.id, ref.key))
        if prints[place] != .none { lengths[place] = UInt32(clamping: length + 1) }
    }

    /// `nil` when it was never set.
    func length(of ref: BlockRef) -> Int? {
        let place = place(print(ref.id, ref.key))
        return prints[place] == .none || lengths[place] == 0 ? nil : Int(lengths[place]) - 1
    }

    private mutating func insert(_ print: Print) -> Bool {
        let found = place(print)
        guard prints[found] == .none else { return false }
        prints[found] = print
        count += 1
        if count * 4 > prints.count * 3 { grow() }
        return true
    }

    private mutating func grow() {
        let (oldPrints, oldLengths) = (prints, lengths)
        prints = Array(repeating: .none, count: oldPrints.count * 2)
        lengths = Array(repeating: 0, count: oldPrints.count * 2)
        for (index, print) in oldPrints.enumerated() where print != .none {
            let place = place(print)
            (prints[place], lengths[place]) = (print, oldLengths[index])
        }
    }

    private func print(_ id: ChunkID, _ key: BlockKey?) -> Print {
        func hash(_ seed: UInt64) -> UInt64 {
            var hasher = Hasher()
            hasher.combine(seed)
            hasher.combine(id)
            hasher.combine(key)
            return UInt64(bitPattern: Int64(hasher.finalize()))
        }
        let print = Print(a: hash(seeds.0), b: hash(seeds.1))
        return print == .none ? Print(a: 1, b: 1) : print
    }

    private func place(_ print: Print) -> Int {
        var place = Int(truncatingIfNeeded: print.a) & (prints.count - 1)
        while prints[place] != .none, prints[place] != print { place = (place + 1) & (prints.count - 1) }
        return place
    }
}
