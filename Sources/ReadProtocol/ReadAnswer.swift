public import ChunkModel

/// What the daemon sends: four bytes of length, then kind and fields, numbers big-endian.
public enum ReadAnswer: Hashable, Sendable {
    /// The first frame of a connection.
    case hello(version: UInt16, software: String)
    /// The flist is open as number `flist` of this connection. One descriptor comes with the frame: of `tables`, for reading.
    ///
    /// - `path`: the flist as the daemon keeps it.
    /// - `tables`: what is read: the same, or the index that was made of a legacy flist.
    case opened(id: UInt32, flist: UInt32, digest: FlistDigest, isLegacy: Bool, path: String, tables: String)
    /// The bytes from `start` to `end` of the decoded file `content` are there and stay; they hold the range that was asked for, cut at the end of
    /// the file, and may be more. The first time, the file's descriptor comes with the frame (`hasDescriptor`), for reading.
    ///
    /// - `isWhole`: nothing of the file is missing any more.
    case ready(id: UInt32, content: UInt64, start: UInt64, end: UInt64, isWhole: Bool, hasDescriptor: Bool)
    /// As many raw bytes follow the frame: the range that was asked for, shorter only at the end of the file.
    case bytes(id: UInt32, count: UInt32)
    /// Not all of the file is there: so much of it is.
    case partial(id: UInt32, readyBytes: UInt64, size: UInt64)
    case done(id: UInt32)
    case failed(id: UInt32, code: ReadErrorCode, message: String)
    /// The daemon has let go of this content: its room is free when the client closes its descriptor and says `release`. Until then the
    /// descriptor reads as before.
    case gone(content: UInt64)

    private enum Kind: UInt8 { case hello = 1, opened, ready, bytes, partial, done, failed, gone }

    /// The frame, its length in front.
    public var encoded: [UInt8] {
        var writer = ReadWriter()
        switch self {
        case .hello(let version, let software):
            writer.put8(Kind.hello.rawValue)
            writer.put16(version)
            writer.put(software, limit: 64)
        case .opened(let id, let flist, let digest, let isLegacy, let path, let tables):
            writer.put8(Kind.opened.rawValue)
            writer.put32(id)
            writer.put32(flist)
            writer.put(digest.value.bytes)
            writer.put8(isLegacy ? 1 : 0)
            writer.put(path, limit: ReadLimits.maxNameBytes)
            writer.put(tables, limit: ReadLimits.maxNameBytes)
        case .ready(let id, let content, let start, let end, let isWhole, let hasDescriptor):
            writer.put8(Kind.ready.rawValue)
            writer.put32(id)
            writer.put64(content)
            writer.put64(start)
            writer.put64(end)
            writer.put8(isWhole ? 1 : 0)
            writer.put8(hasDescriptor ? 1 : 0)
        case .bytes(let id, let count):
            writer.put8(Kind.bytes.rawValue)
            writer.put32(id)
            writer.put32(count)
        case .partial(let id, let readyBytes, let size):
            writer.put8(Kind.partial.rawValue)
            writer.put32(id)
            writer.put64(readyBytes)
            writer.put64(size)
        case .done(let id):
            writer.put8(Kind.done.rawValue)
            writer.put32(id)
        case .failed(let id, let code, let message):
            writer.put8(Kind.failed.rawValue)
            writer.put32(id)
            writer.put8(code.rawValue)
            writer.put(message, limit: ReadLimits.maxMessageBytes)
        case .gone(let content):
            writer.put8(Kind.gone.rawValue)
            writer.put64(content)
        }
        return writer.frame()
    }

    /// - Parameter body: a frame without its length.
    public init(decoding body: ArraySlice<UInt8>) throws(ReadViolation) {
        var reader = ReadReader(body)
        let number = try reader.take8()
        guard let kind = Kind(rawValue: number) else { throw ReadViolation("an answer of the unknown kind \(number)") }
        switch kind {
        case .hello: self = .hello(version: try reader.take16(), software: try reader.takeText(limit: 64))
        case .opened:
            let (id, flist) = (try reader.take32(), try reader.take32())
            guard let digest = Bytes32(try reader.takeBytes(32)) else { throw ReadViolation("a digest that is none") }
            self = .opened(
                id: id, flist: flist, digest: FlistDigest(digest), isLegacy: try reader.takeBool(),
                path: try reader.takeText(limit: ReadLimits.maxNameBytes), tables: try reader.takeText(limit: ReadLimits.maxNameBytes))
        case .ready:
            let (id, content) = (try reader.take32(), try reader.take64())
            let (start, end) = (try reader.take64(), try reader.take64())
            guard start <= end else { throw ReadViolation("a range that ends before it begins") }
            self = .ready(
                id: id, content: content, start: start, end: end, isWhole: try reader.takeBool(), hasDescriptor: try reader.takeBool())
        case .bytes:
            let (id, count) = (try reader.take32(), try reader.take32())
            guard count <= UInt32(ReadLimits.maxInlineBytes) else { throw ReadViolation("\(count) bytes in one answer") }
            self = .bytes(id: id, count: count)
        case .partial: self = .partial(id: try reader.take32(), readyBytes: try reader.take64(), size: try reader.take64())
        case .done: self = .done(id: try reader.take32())
        case .failed:
            let (id, code) = (try reader.take32(), try reader.take8())
            guard let code = ReadErrorCode(rawValue: code) else { throw ReadViolation("an unknown error") }
            self = .failed(id: id, code: code, message: try reader.takeText(limit: ReadLimits.maxMessageBytes))
        case .gone: self = .gone(content: try reader.take64())
        }
        try reader.end()
    }

    /// The request that it answers; `nil` for what comes unasked.
    public var id: UInt32? {
        switch self {
        case .opened(let id, _, _, _, _, _), .ready(let id, _, _, _, _, _), .bytes(let id, _), .partial(let id, _, _), .done(let id),
            .failed(let id, _, _):
            id
        case .hello, .gone: nil
        }
    }

    /// Descriptors that come with the frame.
    public var descriptors: Int {
        switch self {
        case .opened: 1
        case .ready(_, _, _, _, _, let hasDescriptor): hasDescriptor ? 1 : 0
        case .hello, .bytes, .partial, .done, .failed, .gone: 0
        }
    }
}
