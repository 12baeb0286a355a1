internal import BlockingThreads
internal import ChunkModel
internal import ControlModel
internal import Flist
internal import Glibc
internal import ReadAPI

/// Chunks of one flist by way of the fetcher.
struct FlistSource: ChunkSource {
    let fetcher: ChunkFetcher
    let flist: FlistDigest

    func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk? {
        try await fetcher.fetch(id, flist: flist, priority: priority).chunk
    }
}

/// The flist file itself, as the API serves it.
final class FlistImage: ServedFile {
    /// Bytes read at a time.
    static let pieceBytes = 512 * 1024

    let size: UInt64
    let mtime: Int64 = 0
    let entityTag: String
    private let descriptor: Int32
    private let threads: BlockingThreads

    /// Blocking.
    init(_ entry: FlistTable.Entry, threads: BlockingThreads) throws {
        size = UInt64(clamping: entry.flist.fileBytes)
        entityTag = entry.record.digest.hex
        self.threads = threads
        descriptor = open(entry.flist.file.path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw NodeError.unavailable("\(entry.record.name): \(String(cString: strerror(errno)))") }
    }

    deinit { close(descriptor) }

    func read(at offset: UInt64, atMost length: Int) async throws -> (buffer: ChunkBuffer, range: Range<Int>) {
        try await threads.run { [self] in
            let buffer = ChunkBuffer(capacity: min(length, Self.pieceBytes))
            let count = pread(descriptor, buffer.base, buffer.capacity, off_t(clamping: offset))
            guard count >= 0 else { throw NodeError.unavailable("the flist cannot be read: \(String(cString: strerror(errno)))") }
            buffer.count = count
            return (buffer, 0..<count)
        }
    }
}

/// A file of an flist, as the API serves it.
struct FlistContent: ServedFile {
    let file: OpenFile
    let entityTag: String

    init(file: OpenFile) { (self.file, entityTag) = (file, file.contentTag) }

    var size: UInt64 { file.size }
    var mtime: Int64 { file.entry.mtime }

    func read(at offset: UInt64, atMost length: Int) async throws -> (buffer: ChunkBuffer, range: Range<Int>) {
        // To the end of the block at most: the next one is asked for when this one is on its way.
        let block = UInt64(ChunkLimits.blockBytes)
        let room = Int(block - offset % block)
        guard let slice = try await file.read(offset: offset, length: min(length, room)).first else {
            return (ChunkBuffer(capacity: 0), 0..<0)
        }
        return (slice.buffer, slice.range)
    }

    func ready(at offset: UInt64, atMost length: Int) -> (buffer: ChunkBuffer, range: Range<Int>)? {
        file.decoded(offset: offset, length: length).map { ($0.buffer, $0.range) }
    }
}
