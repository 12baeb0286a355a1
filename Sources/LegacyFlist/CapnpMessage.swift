/// Why a Cap'n Proto message cannot be read: a few words that stand behind "damaged record".
struct CapnpError: Error, Hashable {
    let reason: String
    /// Nothing more can be read from this message.
    let endsMessage: Bool

    init(_ reason: String, endsMessage: Bool = false) { (self.reason, self.endsMessage) = (reason, endsMessage) }
}

/// Where a struct lies in a message.
struct CapnpStruct: Hashable, Sendable {
    fileprivate let segment: Int
    /// In words from the segment's start.
    fileprivate let start: Int
    fileprivate let dataWords: Int
    fileprivate let pointers: Int
}

/// A list of structs, all of one size.
struct CapnpStructList: Hashable, Sendable {
    let count: Int
    fileprivate let segment: Int
    fileprivate let start: Int
    fileprivate let dataWords: Int
    fileprivate let pointers: Int

    static let empty = CapnpStructList(count: 0, segment: 0, start: 0, dataWords: 0, pointers: 0)

    /// - Parameter index: below `count`.
    subscript(index: Int) -> CapnpStruct {
        CapnpStruct(segment: segment, start: start + index * (dataWords + pointers), dataWords: dataWords, pointers: pointers)
    }
}

/// A Cap'n Proto message in unpacked stream framing (FORMATS.md §2.3), as far as legacy flists use the format: structs, lists of
/// structs, text and data, over any number of segments.
///
/// Nothing in the bytes is believed: every place is checked against its segment before it is read, and each word can be
/// read a few times only, so that lists which overlap, or claim a thousand million elements without size, end soon.
struct CapnpMessage: Sendable {
    /// Larger messages are refused (zflist's own limit is 4 MiB).
    static let maxBytes = 32 << 20
    /// c-capnproto begins a segment every 4 KiB or so.
    static let maxSegments = 1 << 16
    /// How often each word may be read, on average.
    static let readsPerWord = 4

    private let bytes: [UInt8]
    /// Byte offset and number of words of each segment.
    private let segments: [(start: Int, words: Int)]
    private var budget: Int

    init(_ bytes: [UInt8]) throws(CapnpError) {
        func number(_ offset: Int) -> Int {
            Int(bytes[offset]) | Int(bytes[offset + 1]) << 8 | Int(bytes[offset + 2]) << 16 | Int(bytes[offset + 3]) << 24
        }
        guard bytes.count <= Self.maxBytes else { throw CapnpError("message of \(bytes.count) bytes", endsMessage: true) }
        guard bytes.count >= 8 else { throw CapnpError("message of \(bytes.count) bytes", endsMessage: true) }
        let count = number(0) + 1
        guard count <= Self.maxSegments, 4 + 4 * count <= bytes.count else {
            throw CapnpError("message of \(count) segments in \(bytes.count) bytes", endsMessage: true)
        }
        var segments: [(start: Int, words: Int)] = []
        segments.reserveCapacity(count)
        var start = (4 + 4 * count + 7) & ~7
        for index in 0..<count {
            let words = number(4 + 4 * index)
            guard start <= bytes.count, words <= (bytes.count - start) / 8 else {
                throw CapnpError("message is cut off in segment \(index) of \(count)", endsMessage: true)
            }
            segments.append((start, words))
            start += words * 8
        }
        (self.bytes, self.segments) = (bytes, segments)
        budget = Self.readsPerWord * (bytes.count / 8) + 64
    }

    /// The struct that the message is about.
    mutating func root() throws(CapnpError) -> CapnpStruct {
        guard let root = try structure(segment: 0, word: 0) else { throw CapnpError("message without a root", endsMessage: true) }
        return root
    }

    // MARK: Fields

    /// The integer at a byte offset, which is a multiple of its size; 0 where a shorter struct of an older writer ends before.
    func integer<T: FixedWidthInteger>(_ type: T.Type = T.self, of place: CapnpStruct, at offset: Int) -> T {
        let size = MemoryLayout<T>.size
        guard offset >= 0, offset + size <= place.dataWords * 8 else { return 0 }
        return load(at: segments[place.segment].start + place.start * 8 + offset)
    }

    /// The text behind a pointer, without its NUL; empty where there is none.
    mutating func text(of place: CapnpStruct, pointer: Int) throws(CapnpError) -> [UInt8] {
        var out = try data(of: place, pointer: pointer)
        if !out.isEmpty {
            guard out.removeLast() == 0 else { throw CapnpError("text without NUL at its end") }
        }
        return out
    }

    /// The bytes behind a pointer; empty where there are none.
    mutating func data(of place: CapnpStruct, pointer: Int) throws(CapnpError) -> [UInt8] {
        guard let word = self.word(of: pointer, in: place), let list = try list(segment: place.segment, word: word) else { return [] }
        guard list.kind == 2 || list.count == 0 else { throw CapnpError("list of bytes expected") }
        let start = segments[list.segment].start + list.start * 8
        return Array(bytes[start..<start + list.count])
    }

    mutating func structure(of place: CapnpStruct, pointer: Int) throws(CapnpError) -> CapnpStruct? {
        guard let word = word(of: pointer, in: place) else { return nil }
        return try structure(segment: place.segment, word: word)
    }

    mutating func structures(of place: CapnpStruct, pointer: Int) throws(CapnpError) -> CapnpStructList {
        guard let word = word(of: pointer, in: place), let list = try list(segment: place.segment, word: word) else { return .empty }
        guard list.count > 0 else { return .empty }
        guard list.kind == 7 else { throw CapnpError("list of structs expected") }
        return CapnpStructList(
            count: list.count, segment: list.segment, start: list.start, dataWords: list.dataWords, pointers: list.pointers)
    }

    // MARK: Pointers

    private struct List {
        let kind: Int
        let count: Int
        let segment: Int
        let start: Int
        var dataWords = 0
        var pointers = 0
    }

    /// `nil` for a pointer that an older writer's struct does not have.
    private func word(of pointer: Int, in place: CapnpStruct) -> Int? {
        pointer >= 0 && pointer < place.pointers ? place.start + place.dataWords + pointer : nil
    }

    /// The caller has checked that eight bytes (or as many as `T` has) lie there.
    private func load<T: FixedWidthInteger>(at offset: Int) -> T {
        bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
    }

    private func word(segment: Int, at word: Int) throws(CapnpError) -> UInt64 {
        guard segment < segments.count, word >= 0, word < segments[segment].words else {
            throw CapnpError("pointer outside its segment")
        }
        return load(at: segments[segment].start + word * 8)
    }

    /// Checks that `words` words lie in the segment, and pays for reading them.
    private mutating func claim(segment: Int, start: Int, words: Int) throws(CapnpError) {
        guard segment < segments.count, start >= 0, words >= 0, start <= segments[segment].words,
            words <= segments[segment].words - start
        else { throw CapnpError("pointer outside its segment") }
        try pay(words + 1)
    }

    private mutating func pay(_ words: Int) throws(CapnpError) {
        guard words <= budget else { throw CapnpError("message refers to its data too often", endsMessage: true) }
        budget -= words
    }

    /// Follows far pointers.
    ///
    /// - Returns: the pointer that describes the object, its segment, and the word that its offset counts from; `nil` for null.
    private func target(segment: Int, word: Int) throws(CapnpError) -> (pointer: UInt64, segment: Int, base: Int)? {
        let pointer = try self.word(segment: segment, at: word)
        guard pointer & 3 == 2 else { return pointer == 0 ? nil : (pointer, segment, word + 1) }
        let pad = Int(pointer >> 3 & 0x1fff_ffff)
        let padSegment = Int(pointer >> 32)
        let first = try self.word(segment: padSegment, at: pad)
        guard pointer & 4 != 0 else {
            guard first & 3 != 2 else { throw CapnpError("far pointer to a far pointer") }
            return first == 0 ? nil : (first, padSegment, pad + 1)
        }
        let tag = try self.word(segment: padSegment, at: pad + 1)
        guard first & 7 == 2, tag & 3 != 2 else { throw CapnpError("wrong landing pad of a double far pointer") }
        return (tag, Int(first >> 32), Int(first >> 3 & 0x1fff_ffff))
    }

    /// The signed 30-bit offset of a struct or list pointer.
    private static func offset(_ pointer: UInt64) -> Int { Int(Int32(truncatingIfNeeded: pointer) >> 2) }

    private mutating func structure(segment: Int, word: Int) throws(CapnpError) -> CapnpStruct? {
        guard let (pointer, segment, base) = try target(segment: segment, word: word) else { return nil }
        guard pointer & 3 == 0 else { throw CapnpError("pointer to a struct expected") }
        let place = CapnpStruct(
            segment: segment, start: base + Self.offset(pointer), dataWords: Int(pointer >> 32 & 0xffff), pointers: Int(pointer >> 48))
        try claim(segment: segment, start: place.start, words: place.dataWords + place.pointers)
        return place
    }

    private mutating func list(segment: Int, word: Int) throws(CapnpError) -> List? {
        guard let (pointer, segment, base) = try target(segment: segment, word: word) else { return nil }
        guard pointer & 3 == 1 else { throw CapnpError("pointer to a list expected") }
        let start = base + Self.offset(pointer)
        let kind = Int(pointer >> 32 & 7)
        let count = Int(pointer >> 35)
        guard kind == 7 else {
            let bits = [0, 1, 8, 16, 32, 64, 64][kind]
            try claim(segment: segment, start: start, words: (count * bits + 63) / 64)
            return List(kind: kind, count: count, segment: segment, start: start)
        }
        // The count is in words; a tag before the first element says how many there are, and how large.
        try claim(segment: segment, start: start, words: count + 1)
        let tag = try self.word(segment: segment, at: start)
        let (elements, dataWords, pointers) = (Int(tag >> 2 & 0x3fff_ffff), Int(tag >> 32 & 0xffff), Int(tag >> 48))
        guard tag & 3 == 0, elements * (dataWords + pointers) <= count else { throw CapnpError("list of structs larger than it may be") }
        // Elements without size take no words, but time.
        try pay(elements)
        return List(kind: 7, count: elements, segment: segment, start: start + 1, dataWords: dataWords, pointers: pointers)
    }
}
