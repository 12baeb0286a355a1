public import Flist
internal import BlockCodec
internal import ChunkModel
internal import ReadAPI
internal import ReadClient
internal import Synchronization

/// A regular file of an flist.
///
/// Reading on from where the last read ended lets more and more be got ahead, up to 8 MiB; a read elsewhere ends that.
public final class ReadableFile: Sendable {
    enum Content: Sendable {
        case remote(RemoteFlist)
        case local(LocalContent)
    }

    public let entry: FlistEntry
    public var size: UInt64 { entry.size }
    /// Keeps the flist open.
    private let flist: ReadableFlist
    private let content: Content

    init(entry: FlistEntry, flist: ReadableFlist, content: Content) { (self.entry, self.flist, self.content) = (entry, flist, content) }

    /// Copies bytes from `offset` into `target`, which must stay valid until this returns. Several reads may be under way at a time.
    ///
    /// - Returns: bytes copied: all of `target`, fewer at the end of the file only; 0 at its end and beyond.
    /// - Throws: `FlistReadError`: `cancelled` soon after the task was cancelled. Never wrong bytes: what is in `target` then is of no use.
    public func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) async throws(FlistReadError) -> Int {
        guard offset < size, !target.isEmpty else { return 0 }
        do {
            switch content {
            case .remote(let remote): return try await remote.read(entry.ino, at: offset, into: target)
            case .local(let local): return try await local.read(at: offset, into: target)
            }
        } catch {
            throw FlistReadError(error)
        }
    }

    /// Up to `count` bytes from `offset`.
    public func read(at offset: UInt64, count: Int) async throws(FlistReadError) -> [UInt8] {
        guard offset < size, count > 0 else { return [] }
        let room = Int(min(UInt64(count), size - offset))
        let target = UnsafeMutableRawBufferPointer.allocate(byteCount: room, alignment: 16)
        defer { target.deallocate() }
        let read = try await read(at: offset, into: target)
        return [UInt8](unsafeUninitializedCapacity: read) { buffer, filled in
            UnsafeMutableRawBufferPointer(buffer).copyMemory(from: UnsafeRawBufferPointer(rebasing: target[..<read]))
            filled = read
        }
    }

    /// The file's bytes from `offset` on, in pieces.
    ///
    /// - Parameter piece: bytes of a piece; the last one may be shorter.
    public func stream(from offset: UInt64 = 0, piece: Int = ChunkStream.pieceBytes) -> ChunkStream {
        ChunkStream(file: self, offset: offset, piece: max(1, piece))
    }
}

/// The bytes of a file, one piece after the other. What comes next is got while a piece is being used.
public struct ChunkStream: AsyncSequence, Sendable {
    public typealias Element = [UInt8]
    public typealias Failure = FlistReadError
    /// Bytes of a piece when nothing else is said: a block.
    public static let pieceBytes = ChunkLimits.blockBytes

    let file: ReadableFile
    let offset: UInt64
    let piece: Int

    public func makeAsyncIterator() -> Iterator { Iterator(stream: self, at: offset) }

    public struct Iterator: AsyncIteratorProtocol {
        let stream: ChunkStream
        var at: UInt64

        init(stream: ChunkStream, at: UInt64) { (self.stream, self.at) = (stream, at) }

        public mutating func next() async throws(FlistReadError) -> [UInt8]? {
            if Task.isCancelled { throw FlistReadError(.cancelled, "cancelled") }
            let bytes = try await stream.file.read(at: at, count: stream.piece)
            at += UInt64(bytes.count)
            return bytes.isEmpty ? nil : bytes
        }
    }
}

/// The content of a file whose blocks are got and decoded in this process.
final class LocalContent: Sendable {
    private struct State {
        var ahead = ReadAhead()
        var tasks: [Task<Void, Never>] = []
    }
    private let size: UInt64
    private let blocks: [BlockRef]
    private let loader: BlockLoader
    private let reader: FileReader
    private let state = Mutex(State())

    init(size: UInt64, blocks: [BlockRef], loader: BlockLoader) {
        (self.size, self.blocks, self.loader) = (size, blocks, loader)
        reader = FileReader(size: size, blockCount: blocks.count) { try await loader.block(blocks[$0], priority: .foreground) }
    }

    deinit { for task in state.withLock({ $0.tasks }) { task.cancel() } }

    func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) async throws -> Int {
        var done = 0
        while done < target.count, offset + UInt64(done) < size {
            // A block or two at a time: no more than that is in memory for one reader.
            let from = offset + UInt64(done)
            let step = min(target.count - done, 2 * ChunkLimits.blockBytes)
            follow(reader.likelyBlocks(offset: from, length: step))
            let slices = try await reader.read(offset: from, length: step)
            if slices.isEmpty { break }
            for slice in slices {
                slice.withBytes { UnsafeMutableRawBufferPointer(rebasing: target[done...]).copyMemory(from: $0) }
                done += slice.range.count
            }
        }
        return done
    }

    /// Gets ahead what the reader will come to; ends that when it goes elsewhere.
    private func follow(_ wanted: Range<Int>) {
        guard !wanted.isEmpty else { return }
        let (next, ended) = state.withLock { state -> (Range<Int>, [Task<Void, Never>]) in
            let had = state.ahead.blocks
            let next = state.ahead.read(wanted, of: blocks.count)
            guard had > 0, state.ahead.blocks == 0 else { return (next, []) }
            defer { state.tasks = [] }
            return (next, state.tasks)
        }
        for task in ended { task.cancel() }
        guard !next.isEmpty, let task = loader.ahead(blocks[next].prefix(loader.window)) else { return }
        state.withLock { state in
            state.tasks.append(task)
            if state.tasks.count > ReadAhead.maxBlocks { state.tasks.removeFirst() }
        }
    }
}
