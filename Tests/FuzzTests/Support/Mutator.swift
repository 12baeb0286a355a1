/// Small changes to inputs, the same for the same seed.
struct Mutator {
    /// xorshift64*
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

    private static let numbers: [UInt64] = [0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 62, .max >> 1, .max]

    private mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_F491_4F6C_DD1D
    }

    mutating func below(_ bound: Int) -> Int { bound <= 0 ? 0 : Int((next() >> 1) % UInt64(bound)) }

    /// One of `corpus` with one to eight changes; parts of another one may be put in.
    mutating func input(from corpus: [[UInt8]], upTo limit: Int) -> [UInt8] {
        var bytes = corpus.isEmpty ? [] : corpus[below(corpus.count)]
        for _ in 0...below(8) { change(&bytes, corpus) }
        return Array(bytes.prefix(limit))
    }

    private mutating func change(_ bytes: inout [UInt8], _ corpus: [[UInt8]]) {
        let at = below(bytes.count + 1)
        switch below(9) {
        case 0 where at < bytes.count: bytes[at] ^= 1 << UInt8(below(8))
        case 1 where at < bytes.count: bytes[at] = UInt8(below(256))
        case 2: bytes.insert(UInt8(below(256)), at: at)
        case 3: bytes.removeSubrange(at..<min(bytes.count, at + 1 + below(16)))
        case 4: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 1 + below(64))], at: at)
        case 5: bytes.removeSubrange(at...)
        case 6:
            let number = Self.numbers[below(Self.numbers.count)]
            let width = [1, 2, 4, 8][below(4)]
            let isBig = below(2) == 0
            for i in 0..<width where at + i < bytes.count {
                bytes[at + i] = UInt8(truncatingIfNeeded: number >> UInt64(8 * (isBig ? width - 1 - i : i)))
            }
        case 7 where !corpus.isEmpty:
            let other = corpus[below(corpus.count)]
            let start = below(other.count + 1)
            bytes.insert(contentsOf: other[start..<min(other.count, start + 1 + below(128))], at: at)
        default:
            // A run of one byte.
            for i in at..<min(bytes.count, at + 1 + below(32)) { bytes[i] = bytes[at] }
        }
    }
}
