internal import BlockingThreads
internal import ChunkModel
internal import ControlModel
internal import Glibc
internal import LocalFiles

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

    func stored(at offset: UInt64, atMost length: Int) -> StoredBytes? {
        guard offset < size else { return nil }
        let count = PageCache.resident(descriptor, at: offset, count: Int(clamping: min(UInt64(clamping: length), size - offset)))
        return count > 0 ? StoredBytes(descriptor: descriptor, range: offset..<offset + UInt64(count), owner: self) : nil
    }

    func store(_ range: Range<UInt64>) async throws -> Bool {
        let range = range.clamped(to: 0..<size)
        return await threads.run { [self] in
            PageCache.load(descriptor, at: range.lowerBound, count: Int(clamping: range.upperBound - range.lowerBound))
        }
    }
}
