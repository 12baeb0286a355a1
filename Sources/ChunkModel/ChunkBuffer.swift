internal import Synchronization

/// Limits that every part agrees on.
public enum ChunkLimits {
    /// Bytes of plain content in one block, as all writers cut files (FORMATS.md §1.3).
    public static let blockBytes = 512 * 1024
    /// The largest plain block that a reader accepts: four times what writers make, so that odd but honest flists still read.
    public static let maxPlainBytes = 4 * blockBytes
    /// The largest chunk that is received, stored or served: snappy's worst case for `maxPlainBytes`, plus the GCM tag.
    /// Longer ones are refused before anything is allocated.
    public static let maxStoredBytes = 32 + maxPlainBytes + maxPlainBytes / 6 + 16
}

/// Bytes that one chunk travels in: received into, hashed, written and served from, without a copy.
///
/// Whoever holds it may read; only the one who took it from the pool writes, before sharing it.
public final class ChunkBuffer: @unchecked Sendable {
    /// Start of the memory, aligned to a page.
    public let base: UnsafeMutableRawPointer
    public let capacity: Int
    /// How many bytes are filled.
    public var count: Int
    private let pool: ChunkBufferPool?

    fileprivate init(base: UnsafeMutableRawPointer, capacity: Int, pool: ChunkBufferPool?) {
        (self.base, self.capacity, self.pool) = (base, capacity, pool)
        count = 0
    }

    /// A buffer of its own, outside any pool.
    public convenience init(capacity: Int) {
        self.init(base: .allocate(byteCount: max(capacity, 1), alignment: 4096), capacity: capacity, pool: nil)
    }

    /// A buffer that holds a copy of `bytes`.
    public convenience init(copying bytes: some Collection<UInt8>) {
        self.init(capacity: bytes.count)
        UnsafeMutableRawBufferPointer(start: base, count: capacity).copyBytes(from: bytes)
        count = bytes.count
    }

    deinit {
        if let pool { pool.giveBack(base, capacity: capacity) } else { base.deallocate() }
    }

    /// The filled bytes; valid while this object lives.
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// Runs `body` on the filled bytes and keeps the buffer alive meanwhile.
    public func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        defer { withExtendedLifetime(self) {} }
        return try body(bytes)
    }
}

/// Keeps the memory of finished chunks for the next ones, so that a stream of chunks does not go through malloc and page
/// faults each time. Buffers of the common size are kept up to a limit; others come and go.
public final class ChunkBufferPool: Sendable {
    /// Room for a chunk of a full block that did not compress at all.
    public static let commonBytes = 32 + ChunkLimits.blockBytes + ChunkLimits.blockBytes / 6 + 16

    private struct Idle: @unchecked Sendable {
        var blocks: [UnsafeMutableRawPointer] = []
    }
    private let idle = Mutex(Idle())
    private let keep: Int

    /// - Parameter keep: how many idle buffers stay allocated (0.6 MB each); further ones are freed.
    public init(keep: Int = 32) { self.keep = keep }

    deinit {
        idle.withLock { idle in
            for block in idle.blocks { block.deallocate() }
        }
    }

    /// An empty buffer with room for `capacity` bytes, or for any common chunk when that is more.
    public func take(capacity: Int = commonBytes) -> ChunkBuffer {
        guard capacity <= Self.commonBytes else { return ChunkBuffer(capacity: capacity) }
        let taken = idle.withLock { idle in Idle(blocks: idle.blocks.popLast().map { [$0] } ?? []) }
        let base = taken.blocks.first ?? .allocate(byteCount: Self.commonBytes, alignment: 4096)
        return ChunkBuffer(base: base, capacity: Self.commonBytes, pool: self)
    }

    fileprivate func giveBack(_ base: UnsafeMutableRawPointer, capacity: Int) {
        let returned = Idle(blocks: [base])
        let kept = idle.withLock { idle in
            guard idle.blocks.count < keep else { return false }
            idle.blocks.append(contentsOf: returned.blocks)
            return true
        }
        if !kept { returned.blocks[0].deallocate() }
    }
}
