internal import ChunkModel
@_spi(CustomByteBufferAllocator) internal import NIOCore
internal import Glibc
internal import Synchronization

/// Decoded blocks as NIO's buffers, without a copy: the block stays alive until the last buffer over it has been written.
///
/// NIO frees memory by its address alone, so a table knows whose it is. Nobody may write into such a buffer; should NIO ever want to
/// make one larger, it gets a copy.
enum SharedBytes {
    /// Pieces that are smaller are copied: cheaper than the table.
    static let leastBytes = 16 << 10

    private struct Share: Sendable {
        let buffer: ChunkBuffer
        var count = 1
    }
    private static let shares = Mutex<[UInt: Share]>([:])

    /// Blocks that are on their way to sockets now.
    static var count: Int { shares.withLock { $0.count } }

    static func buffer(_ chunk: ChunkBuffer, _ range: Range<Int>) -> ByteBuffer {
        guard range.count >= leastBytes else {
            return chunk.withBytes { ByteBuffer(bytes: UnsafeRawBufferPointer(rebasing: $0[range])) }
        }
        let address = UInt(bitPattern: chunk.base)
        shares.withLock { shares in
            if shares[address]?.count != nil { shares[address]!.count += 1 } else { shares[address] = Share(buffer: chunk) }
        }
        return ByteBuffer(
            takingOwnershipOf: UnsafeMutableRawBufferPointer(start: chunk.base, count: chunk.count), allocator: allocator,
            readerIndex: range.lowerBound, writerIndex: range.upperBound)
    }

    private static let allocator = ByteBufferAllocator { size in
        malloc(size)
    } reallocate: { pointer, old, new in
        guard let moved = malloc(new) else { return nil }
        if let pointer {
            moved.copyMemory(from: pointer, byteCount: min(old, new))
            SharedBytes.release(pointer)
        }
        return moved
    } deallocate: { pointer in
        SharedBytes.release(pointer)
    } copy: { target, source, count in
        target.copyMemory(from: source, byteCount: count)
    }

    private static func release(_ pointer: UnsafeMutableRawPointer) {
        let address = UInt(bitPattern: pointer)
        // The last reference goes outside of the lock.
        let (isShared, ended) = shares.withLock { shares -> (Bool, Share?) in
            guard let share = shares[address] else { return (false, nil) }
            guard share.count == 1 else {
                shares[address]!.count -= 1
                return (true, nil)
            }
            shares[address] = nil
            return (true, share)
        }
        withExtendedLifetime(ended) { if !isShared { free(pointer) } }
    }
}
