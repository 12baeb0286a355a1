public import ChunkModel

/// What a client of the local read protocol sends: four bytes of length, then kind and fields, numbers big-endian.
///
/// A request with an id is answered exactly once, in any order; an id may be used again after its answer.
public enum ReadRequest: Hashable, Sendable {
    /// The first frame of a connection.
    case hello(version: UInt16)
    /// Makes an flist known: its name, digest, path on the daemon's machine, or URL. Answer: `opened`.
    case open(id: UInt32, name: String)
    /// Content of the regular file with the inode number `ino`: at most `length` bytes from `offset`. Answer: `ready` or `bytes`.
    case read(id: UInt32, flist: UInt32, ino: Int64, offset: UInt64, length: UInt32, priority: FetchPriority)
    /// The decoded file, if all of it is there. With `fill`, the daemon gets the rest in the background. Answer: `ready` or `partial`.
    case whole(id: UInt32, flist: UInt32, ino: Int64, fill: Bool)
    /// Gets all chunks of the flist into the daemon's cache in the background. Answer: `done`, at once.
    case prefetch(id: UInt32, flist: UInt32)
    /// The answer of this request is waited for no longer; it comes all the same, soon.
    case cancel(id: UInt32)
    /// The flist is not needed any more. No answer.
    case close(flist: UInt32)
    /// The client has closed the descriptor of this content. No answer.
    case release(content: UInt64)

    private enum Kind: UInt8 { case hello = 1, open, read, whole, prefetch, cancel, close, release }

    /// The frame, its length in front.
    public var encoded: [UInt8] {
        var writer = ReadWriter()
        switch self {
        case .hello(let version):
            writer.put8(Kind.hello.rawValue)
            writer.put16(version)
        case .open(let id, let name):
            writer.put8(Kind.open.rawValue)
            writer.put32(id)
            writer.put(name, limit: ReadLimits.maxNameBytes)
        case .read(let id, let flist, let ino, let offset, let length, let priority):
            writer.put8(Kind.read.rawValue)
            writer.put32(id)
            writer.put32(flist)
            writer.put64(UInt64(bitPattern: ino))
            writer.put64(offset)
            writer.put32(length)
            writer.put8(priority.rawValue)
        case .whole(let id, let flist, let ino, let fill):
            writer.put8(Kind.whole.rawValue)
            writer.put32(id)
            writer.put32(flist)
            writer.put64(UInt64(bitPattern: ino))
            writer.put8(fill ? 1 : 0)
        case .prefetch(let id, let flist):
            writer.put8(Kind.prefetch.rawValue)
            writer.put32(id)
            writer.put32(flist)
        case .cancel(let id):
            writer.put8(Kind.cancel.rawValue)
            writer.put32(id)
        case .close(let flist):
            writer.put8(Kind.close.rawValue)
            writer.put32(flist)
        case .release(let content):
            writer.put8(Kind.release.rawValue)
            writer.put64(content)
        }
        return writer.frame()
    }

    /// - Parameter body: a frame without its length.
    public init(decoding body: ArraySlice<UInt8>) throws(ReadViolation) {
        var reader = ReadReader(body)
        let number = try reader.take8()
        guard let kind = Kind(rawValue: number) else { throw ReadViolation("a request of the unknown kind \(number)") }
        switch kind {
        case .hello: self = .hello(version: try reader.take16())
        case .open: self = .open(id: try reader.take32(), name: try reader.takeText(limit: ReadLimits.maxNameBytes))
        case .read:
            let (id, flist, ino) = (try reader.take32(), try reader.take32(), Int64(bitPattern: try reader.take64()))
            let (offset, length, priority) = (try reader.take64(), try reader.take32(), try reader.take8())
            guard length <= UInt32(ReadLimits.maxReadBytes) else { throw ReadViolation("a read of \(length) bytes") }
            guard let priority = FetchPriority(rawValue: priority) else { throw ReadViolation("an unknown priority") }
            self = .read(id: id, flist: flist, ino: ino, offset: offset, length: length, priority: priority)
        case .whole:
            let (id, flist, ino) = (try reader.take32(), try reader.take32(), Int64(bitPattern: try reader.take64()))
            self = .whole(id: id, flist: flist, ino: ino, fill: try reader.takeBool())
        case .prefetch: self = .prefetch(id: try reader.take32(), flist: try reader.take32())
        case .cancel: self = .cancel(id: try reader.take32())
        case .close: self = .close(flist: try reader.take32())
        case .release: self = .release(content: try reader.take64())
        }
        try reader.end()
    }

    /// The id that its answer bears; `nil` when it has none.
    public var answerID: UInt32? {
        switch self {
        case .open(let id, _), .read(let id, _, _, _, _, _), .whole(let id, _, _, _), .prefetch(let id, _): id
        case .hello, .cancel, .close, .release: nil
        }
    }
}
