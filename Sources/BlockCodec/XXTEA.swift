/// XXTEA as legacy flists use it (FORMATS.md §2.4): little-endian words, the last plain word holds the length in bytes.
///
/// It authenticates nothing: callers check both hashes of a block.
enum XXTEA {
    private static let delta: UInt32 = 0x9e37_79b9

    /// Bytes that `count` plain bytes become: padded to words, and one word more.
    static func sealedCount(_ count: Int) -> Int { max(8, 4 * ((count + 3) / 4 + 1)) }

    /// Encrypts `words` in place; there must be two at least.
    static func encrypt(_ words: UnsafeMutableBufferPointer<UInt32>, key: (UInt32, UInt32, UInt32, UInt32)) {
        let last = words.count - 1
        var sum: UInt32 = 0
        var z = words[last]
        for _ in 0..<(6 + 52 / words.count) {
            sum &+= delta
            let e = sum >> 2 & 3
            for p in 0..<last {
                z = words[p] &+ mix(sum, words[p + 1], z, p, e, key)
                words[p] = z
            }
            z = words[last] &+ mix(sum, words[0], z, last, e, key)
            words[last] = z
        }
    }

    /// Decrypts `words` in place; there must be two at least.
    static func decrypt(_ words: UnsafeMutableBufferPointer<UInt32>, key: (UInt32, UInt32, UInt32, UInt32)) {
        let last = words.count - 1
        let rounds = UInt32(6 + 52 / words.count)
        var sum = rounds &* delta
        var y = words[0]
        while sum != 0 {
            let e = sum >> 2 & 3
            for p in stride(from: last, to: 0, by: -1) {
                y = words[p] &- mix(sum, y, words[p - 1], p, e, key)
                words[p] = y
            }
            y = words[0] &- mix(sum, y, words[last], 0, e, key)
            words[0] = y
            sum &-= delta
        }
    }

    @inline(__always)
    private static func mix(_ sum: UInt32, _ y: UInt32, _ z: UInt32, _ p: Int, _ e: UInt32, _ key: (UInt32, UInt32, UInt32, UInt32))
        -> UInt32
    {
        let part: UInt32 =
            switch (UInt32(truncatingIfNeeded: p) & 3) ^ e {
            case 0: key.0
            case 1: key.1
            case 2: key.2
            default: key.3
            }
        return ((z >> 5 ^ y << 2) &+ (y >> 3 ^ z << 4)) ^ ((sum ^ y) &+ (part ^ z))
    }
}
