public import ChunkModel
internal import Glibc
internal import LocalFiles
internal import Synchronization

/// Puts an flist together from pieces in any order, from several peers at once, and lets it appear only when all its bytes hash
/// to its digest. Unfinished, it leaves nothing behind. Blocking.
public final class PieceWriter: Sendable {
    /// Separate stretches of received bytes that are kept account of; a piece that would open a further one is refused.
    /// Pieces that come in order or as equal blocks stay far below.
    public static let maxStretches = 65_536

    public let digest: FlistDigest
    public let byteCount: Int64
    private let files: FlistFiles
    private let file: TemporaryFlist
    /// Received bytes, in order, none touching the next.
    private let received = Mutex<[Range<Int64>]>([])

    init(digest: FlistDigest, byteCount: Int64, files: FlistFiles) throws {
        self.digest = digest
        self.byteCount = byteCount
        self.files = files
        file = try TemporaryFlist(in: files)
    }

    /// Writes a piece; bytes that were received before are written again.
    ///
    /// - Throws: `ChunkStoreError.tooLarge` when it lies beyond the end or the pieces are too scattered, `.failed` on a full disk.
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: Int64) throws {
        let (end, overflow) = offset.addingReportingOverflow(Int64(bytes.count))
        guard offset >= 0, !overflow, end <= byteCount else {
            throw ChunkStoreError.tooLarge(what: "a piece of flist \(digest)", limit: byteCount)
        }
        guard end > offset else { return }
        try file.write(bytes, at: offset)
        let isNoted = received.withLock { Self.note(offset..<end, in: &$0) }
        if !isNoted { throw ChunkStoreError.tooLarge(what: "the number of pieces of flist \(digest)", limit: Int64(Self.maxStretches)) }
    }

    /// What has not been received, in order; at most `limit` ranges.
    public func missing(limit: Int = 1024) -> [Range<Int64>] {
        received.withLock { received in
            var out: [Range<Int64>] = []
            var next: Int64 = 0
            for range in received where out.count < limit {
                if range.lowerBound > next { out.append(next..<range.lowerBound) }
                next = range.upperBound
            }
            if next < byteCount, out.count < limit { out.append(next..<byteCount) }
            return out
        }
    }

    public var missingBytes: Int64 {
        received.withLock { received in byteCount - received.reduce(0) { $0 + ($1.upperBound - $1.lowerBound) } }
    }

    /// Hashes the whole file and gives it its name. Nobody may write any more.
    ///
    /// - Throws: `ChunkStoreError.incomplete` (go on writing), `.wrongDigest` (all pieces are forgotten; begin anew, from others).
    public func finish() throws -> FlistFiles.Entry {
        let missing = missingBytes
        guard missing == 0 else { throw ChunkStoreError.incomplete(digest, missingBytes: missing) }
        let hash = Blake2bStream()
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: FlistFiles.copyBytes, alignment: 4096)
        defer { buffer.deallocate() }
        var offset: Int64 = 0
        while offset < byteCount {
            let count = FileBytes.read(into: buffer, from: file.handle.fd, at: offset)
            guard count > 0 else {
                throw ChunkStoreError.failed(action: "read flist", path: file.path, code: count < 0 ? Int32(-count) : EIO)
            }
            hash.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            offset += Int64(count)
        }
        let found = FlistDigest(hash.finish())
        guard found == digest else {
            received.withLock { $0 = [] }
            throw ChunkStoreError.wrongDigest(expected: digest, found: found)
        }
        return FlistFiles.Entry(digest: digest, bytes: byteCount, path: try file.publish(as: files.name(of: digest)))
    }

    /// Adds a range, joining those that it overlaps or touches.
    ///
    /// - Returns: `false` when that would make too many.
    private static func note(_ range: Range<Int64>, in ranges: inout [Range<Int64>]) -> Bool {
        // The first that ends at or after the new one's start, and the first that begins after its end.
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound < range.lowerBound { low = middle + 1 } else { high = middle }
        }
        var end = low
        var joined = range
        while end < ranges.count, ranges[end].lowerBound <= range.upperBound {
            joined = min(joined.lowerBound, ranges[end].lowerBound)..<max(joined.upperBound, ranges[end].upperBound)
            end += 1
        }
        guard end > low || ranges.count < maxStretches else { return false }
        ranges.replaceSubrange(low..<end, with: [joined])
        return true
    }
}
