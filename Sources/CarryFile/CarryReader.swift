public import ChunkModel

/// Reads a carried file from pieces of any size as they come. A value without I/O: bytes in, events out; it keeps a few kilobytes at most.
/// Nothing is verified here but the form: whoever takes the bodies hashes them.
public struct CarryReader: Sendable {
    public enum Event: Equatable, Sendable {
        case head(CarryHead)
        case note(CarryNote)
        /// The body follows in pieces, then `bodyEnded`.
        case flist(FlistDigest, length: UInt64)
        /// The same; at most `ChunkLimits.maxStoredBytes`.
        case chunk(ChunkID, length: Int)
        /// A part of the piece that was given, never empty.
        case body(Range<Int>)
        case bodyEnded
        /// Everything was there. `counts` is what the file says, and agrees with what was read.
        case ended(CarryCounts)
    }

    private enum State: Sendable {
        case head
        case recordHead
        /// Of a note or the end, whose bodies are gathered.
        case small(kind: UInt8, id: [UInt8], length: Int)
        case body(left: UInt64)
        case skipped(left: UInt64)
        case ended
    }

    private var state = State.head
    /// Bytes of something that is not whole yet; at most `CarryLimits.noteBytes`.
    private var gathered: [UInt8] = []
    private var seen = CarryCounts()
    private var notes = 0
    private var records: UInt64 = 0
    /// Bytes read since the start of the file.
    public private(set) var offset: UInt64 = 0

    public init() {}

    public var hasEnded: Bool { if case .ended = state { true } else { false } }
    /// Whole flists and chunks so far.
    public var counts: CarryCounts { seen }

    /// - Parameter event: is told of what the bytes hold, in order.
    /// - Throws: `CarryError` where the bytes are no such file; what came before was told, and nothing more may be given.
    public mutating func take(_ bytes: UnsafeRawBufferPointer, _ event: (Event) throws -> Void) throws {
        var at = 0
        while at < bytes.count {
            let start = at
            switch state {
            case .head:
                guard gather(bytes, &at, upTo: CarryFormat.headBytes) else { break }
                try event(.head(try head()))
                state = .recordHead
            case .recordHead:
                guard gather(bytes, &at, upTo: CarryFormat.recordHeadBytes) else { break }
                if let begun = try recordHead() {
                    try event(begun)
                    try endEmptyBody(event)
                }
            case .small(let kind, let id, let length):
                guard gather(bytes, &at, upTo: length) else { break }
                try event(kind == CarryFormat.Kind.note ? .note(try note(id)) : .ended(try end()))
            case .body(let left):
                let count = Int(min(left, UInt64(bytes.count - at)))
                at += count
                state = .body(left: left - UInt64(count))
                try event(.body(start..<at))
                try endEmptyBody(event)
            case .skipped(let left):
                let count = Int(min(left, UInt64(bytes.count - at)))
                at += count
                state = left == UInt64(count) ? .recordHead : .skipped(left: left - UInt64(count))
            case .ended: throw CarryError("bytes follow after the end, at byte \(offset)")
            }
            offset += UInt64(at - start)
        }
    }

    private mutating func endEmptyBody(_ event: (Event) throws -> Void) throws {
        guard case .body(left: 0) = state else { return }
        state = .recordHead
        try event(.bodyEnded)
    }

    /// - Returns: whether `gathered` holds `count` bytes now.
    private mutating func gather(_ bytes: UnsafeRawBufferPointer, _ at: inout Int, upTo count: Int) -> Bool {
        let more = min(count - gathered.count, bytes.count - at)
        gathered += UnsafeRawBufferPointer(rebasing: bytes[at..<at + more])
        at += more
        return gathered.count == count
    }

    private mutating func head() throws -> CarryHead {
        defer { gathered = [] }
        guard gathered.starts(with: CarryFormat.magic) else { throw CarryError("this is no file of chunkmesh cache export") }
        let version: UInt32 = number(at: 16)
        guard version == CarryFormat.version else {
            throw CarryError("the file has version \(version) of the format, this program reads version \(CarryFormat.version)")
        }
        return CarryHead(flists: number(at: 24), chunks: number(at: 32), bytes: number(at: 40))
    }

    /// - Returns: what to tell of it now.
    private mutating func recordHead() throws -> Event? {
        defer { gathered = [] }
        records += 1
        guard records <= CarryLimits.records else { throw CarryError("it has more than \(CarryLimits.records) records") }
        let (kind, idLength) = (gathered[0], Int(gathered[1]))
        let length: UInt64 = number(at: 4)
        guard gathered[2] == 0, gathered[3] == 0, idLength <= 32, gathered[(12 + idLength)...].allSatisfy({ $0 == 0 }) else {
            throw broken("the head of record \(records) makes no sense")
        }
        let id = Array(gathered[12..<12 + idLength])
        switch kind {
        case CarryFormat.Kind.end:
            guard idLength == 0, length == UInt64(CarryFormat.endBytes) else { throw broken("its end makes no sense") }
            state = .small(kind: kind, id: id, length: CarryFormat.endBytes)
        case CarryFormat.Kind.note:
            notes += 1
            guard idLength == 32, (6...UInt64(CarryLimits.noteBytes)).contains(length), notes <= CarryLimits.flists else {
                throw broken("record \(records) is too long, or there are too many of its kind")
            }
            state = .small(kind: kind, id: id, length: Int(length))
        case CarryFormat.Kind.flist:
            guard let digest = Bytes32(id), length > 0, length <= CarryLimits.flistBytes, seen.flists < UInt64(CarryLimits.flists) else {
                throw broken("an flist is too large, or there are too many")
            }
            seen.flists += 1
            state = .body(left: length)
            return .flist(FlistDigest(digest), length: length)
        case CarryFormat.Kind.chunk:
            guard let chunk = ChunkID(id), let bytes = Int(exactly: length), bytes <= ChunkLimits.maxStoredBytes else {
                throw broken("record \(records) is a chunk that is too large")
            }
            seen.chunks += 1
            seen.chunkBytes += length
            state = .body(left: length)
            return .chunk(chunk, length: bytes)
        case CarryFormat.Kind.firstOptional...:
            guard length <= CarryLimits.optionalBytes else { throw broken("record \(records) is too long") }
            state = length == 0 ? .recordHead : .skipped(left: length)
        default: throw broken("record \(records) is of the unknown kind \(kind)")
        }
        return nil
    }

    private mutating func note(_ id: [UInt8]) throws -> CarryNote {
        defer { (gathered, state) = ([], .recordHead) }
        var rest = gathered[...]
        var fields: [[UInt8]] = []
        while fields.count < 3 {
            guard rest.count >= 2 else { throw broken("the note on an flist is cut short") }
            let count = Int(rest.removeFirst()) << 8 | Int(rest.removeFirst())
            guard rest.count >= count else { throw broken("the note on an flist is cut short") }
            fields.append(Array(rest.prefix(count)))
            rest = rest.dropFirst(count)
        }
        guard let digest = Bytes32(id) else { throw broken("the note on an flist names none") }
        let url = fields[1].count <= CarryLimits.urlBytes ? String(validating: fields[1], as: UTF8.self) : nil
        return CarryNote(
            digest: FlistDigest(digest), name: String(decoding: fields[0], as: UTF8.self), url: url?.isEmpty == false ? url : nil,
            signature: fields[2])
    }

    private mutating func end() throws -> CarryCounts {
        defer { gathered = [] }
        state = .ended
        let counts = CarryCounts(flists: number(at: 0), chunks: number(at: 8), chunkBytes: number(at: 16), absent: number(at: 24))
        guard counts.flists == seen.flists, counts.chunks == seen.chunks, counts.chunkBytes == seen.chunkBytes else {
            throw CarryError(
                "its end counts \(counts.flists) flists and \(counts.chunks) chunks, but \(seen.flists) and \(seen.chunks) were there")
        }
        return counts
    }

    private func broken(_ what: String) -> CarryError { CarryError("\(what) (at byte \(offset)): the file is damaged") }

    /// Big-endian, from `gathered`.
    private func number<N: FixedWidthInteger>(at index: Int) -> N {
        gathered[index..<index + N.bitWidth / 8].reduce(0) { $0 << 8 | N(truncatingIfNeeded: $1) }
    }
}
