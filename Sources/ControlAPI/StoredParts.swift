internal import ControlModel
@_spi(CustomByteBufferAllocator) internal import NIOCore
internal import Glibc
internal import Synchronization

/// Bytes that lie in files, and several buffers as one, on their way through a response's body, which takes one buffer.
///
/// An empty buffer stands for them: `FileSender` finds by the place of its memory what it stands for. Where no `FileSender` is, nothing is
/// sent in its place, and the answer ends short.
enum StoredParts {
    enum Part: Sendable {
        case stored(StoredBytes)
        case buffers([ByteBuffer])
    }
    private static let parts = Mutex<[UInt: Part]>([:])
    /// Memory of a buffer, which nobody writes to: its address is the name.
    private static let markBytes = 16

    /// Parts that no `FileSender` has taken yet.
    static var count: Int { parts.withLock { $0.count } }

    static func buffer(_ bytes: StoredBytes) -> ByteBuffer { buffer(.stored(bytes)) }

    static func buffer(_ part: Part) -> ByteBuffer {
        let mark = UnsafeMutableRawBufferPointer.allocate(byteCount: markBytes, alignment: 16)
        parts.withLock { $0[UInt(bitPattern: mark.baseAddress)] = part }
        return ByteBuffer(takingOwnershipOf: mark, allocator: allocator, readerIndex: 0, writerIndex: 0)
    }

    /// What the buffer stands for; `nil` for ordinary ones.
    static func part(of buffer: ByteBuffer) -> Part? {
        guard buffer.readableBytes == 0, buffer.capacity == markBytes else { return nil }
        return buffer.withVeryUnsafeBytes { memory in parts.withLock { $0[UInt(bitPattern: memory.baseAddress)] } }
    }

    private static let allocator = ByteBufferAllocator { size in
        malloc(size)
    } reallocate: { pointer, old, new in
        guard let moved = malloc(new) else { return nil }
        if let pointer {
            moved.copyMemory(from: pointer, byteCount: min(old, new))
            release(pointer)
        }
        return moved
    } deallocate: { pointer in
        release(pointer)
    } copy: { target, source, count in
        target.copyMemory(from: source, byteCount: count)
    }

    private static func release(_ pointer: UnsafeMutableRawPointer) {
        // The last reference may close a file: outside of the lock.
        let ended = parts.withLock { $0.removeValue(forKey: UInt(bitPattern: pointer)) }
        withExtendedLifetime(ended) { free(pointer) }
    }
}
