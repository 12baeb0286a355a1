/// Which chunks of an flist a node holds: one bit for each, exact. "None" and "all" take no memory.
public struct Bitmap: Hashable, Sendable {
    /// Chunks of the flist.
    public let count: Int
    /// Chunks held.
    public private(set) var population = 0
    /// Empty while none or all are held.
    private var words: [UInt64] = []

    /// - Parameter count: 0 ... `GossipLimits.chunksPerNode`; anything else is taken to the nearest.
    public init(count: Int) { self.count = min(max(count, 0), GossipLimits.chunksPerNode) }

    public var isComplete: Bool { population == count }
    public var isEmpty: Bool { population == 0 }

    /// `false` too when there is no chunk `index`.
    public func contains(_ index: Int) -> Bool {
        guard index >= 0, index < count else { return false }
        if words.isEmpty { return population == count }
        return words[index >> 6] >> UInt64(index & 63) & 1 == 1
    }

    /// Sets or clears one bit; indices out of range are ignored. True when it changed.
    @discardableResult
    public mutating func set(_ index: Int, to value: Bool = true) -> Bool {
        guard index >= 0, index < count, contains(index) != value else { return false }
        if words.isEmpty { materialise() }
        words[index >> 6] ^= 1 << UInt64(index & 63)
        population += value ? 1 : -1
        if population == 0 || population == count { words = [] }
        return true
    }

    /// Sets or clears a range, cut to what exists.
    public mutating func set(_ range: Range<Int>, to value: Bool = true) {
        let range = range.clamped(to: 0..<count)
        if range.isEmpty { return }
        if range.count == count {
            words = []
            population = value ? count : 0
            return
        }
        if words.isEmpty {
            if population == (value ? count : 0) { return }
            materialise()
        }
        var index = range.lowerBound
        while index < range.upperBound {
            let bit = index & 63
            let length = min(64 - bit, range.upperBound - index)
            let mask = (length == 64 ? UInt64.max : (1 << UInt64(length)) - 1) << UInt64(bit)
            let word = words[index >> 6]
            let changed = value ? mask & ~word : mask & word
            words[index >> 6] = word ^ changed
            population += value ? changed.nonzeroBitCount : -changed.nonzeroBitCount
            index += length
        }
        if population == 0 || population == count { words = [] }
    }

    private mutating func materialise() {
        let full = population == count
        words = [UInt64](repeating: full ? .max : 0, count: (count + 63) / 64)
        if full, count & 63 != 0 { words[words.count - 1] = (1 << UInt64(count & 63)) - 1 }
    }

    /// The maximal ranges of chunks held, in order.
    public var runs: [Range<Int>] {
        if isEmpty { return [] }
        if isComplete { return [0..<count] }
        var out: [Range<Int>] = []
        var start: Int?
        for (w, word) in words.enumerated() {
            if word == 0 || word == .max {
                // A whole word of one kind: only its edge matters.
                if word == 0, let s = start {
                    out.append(s..<(w << 6))
                    start = nil
                } else if word == .max, start == nil {
                    start = w << 6
                }
                continue
            }
            for bit in 0..<64 {
                let isSet = word >> UInt64(bit) & 1 == 1
                if isSet, start == nil {
                    start = w << 6 + bit
                } else if !isSet, let s = start {
                    out.append(s..<(w << 6 + bit))
                    start = nil
                }
            }
        }
        if let start { out.append(start..<count) }
        return out
    }

    /// Adds one to `counts[i]` for every chunk `i` held; `counts` must be as long as the bitmap, else nothing happens.
    func add(to counts: inout [UInt16]) {
        guard counts.count == count else { return }
        for range in runs {
            for i in range { counts[i] = counts[i] == .max ? .max : counts[i] + 1 }
        }
    }

    /// Takes in the chunks that `other` holds; nothing happens unless both are of the same length.
    mutating func formUnion(_ other: Bitmap) {
        guard other.count == count, !other.isEmpty, !isComplete else { return }
        if isEmpty || other.isComplete {
            self = other
            return
        }
        for i in words.indices { words[i] |= other.words[i] }
        population = words.reduce(0) { $0 + $1.nonzeroBitCount }
        if population == count { words = [] }
    }

    /// The same for equal bitmaps, on every machine; never 0.
    var fingerprint: UInt64 {
        var hash = SplitMix64.mix(UInt64(count) &+ SplitMix64.mix(UInt64(population)))
        for word in words { hash = SplitMix64.mix(hash ^ word) }
        return max(hash, 1)
    }

    /// Smallest of: gaps and lengths of runs, raw bits.
    func encode(to writer: inout WireWriter) {
        let runs = runs
        var coded = WireWriter()
        coded.number(runs.count)
        var end = 0
        for run in runs {
            coded.number(run.lowerBound - end)
            coded.number(run.count)
            end = run.upperBound
            if coded.count > (count + 7) / 8 { break }
        }
        if coded.count <= (count + 7) / 8 || words.isEmpty {
            writer.byte(0)
            writer.raw(coded.bytes)
        } else {
            writer.byte(1)
            for i in 0..<((count + 7) / 8) { writer.byte(UInt8(truncatingIfNeeded: words[i >> 3] >> UInt64((i & 7) * 8))) }
        }
    }

    init(from reader: inout WireReader, count: Int) throws {
        self.init(count: count)
        switch try reader.byte() {
        case 0:
            var end = 0
            for _ in 0..<(try reader.number(upTo: count)) { set(try Self.range(from: &reader, after: &end, count: count)) }
        case 1:
            let bytes = try reader.raw((count + 7) / 8)
            if count == 0 { return }
            words = [UInt64](repeating: 0, count: (count + 63) / 64)
            for (i, byte) in bytes.enumerated() { words[i >> 3] |= UInt64(byte) << UInt64((i & 7) * 8) }
            if count & 63 != 0 { words[words.count - 1] &= (1 << UInt64(count & 63)) - 1 }
            population = words.reduce(0) { $0 + $1.nonzeroBitCount }
            if population == 0 || population == count { words = [] }
        default: throw WireError()
        }
    }

    /// A gap after `end` and a length, which must stay within `count`.
    static func range(from reader: inout WireReader, after end: inout Int, count: Int) throws -> Range<Int> {
        let start = end + (try reader.number(upTo: count - end))
        let length = try reader.number(upTo: count - start)
        end = start + length
        return start..<end
    }
}
