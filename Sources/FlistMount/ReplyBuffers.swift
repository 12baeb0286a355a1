internal import Synchronization

/// Buffers for answers of one size, used again and again.
final class ReplyBuffers: Sendable {
    /// Free ones that are kept.
    private static let kept = 4
    private struct Free: @unchecked Sendable { var buffers: [UnsafeMutableRawBufferPointer] = [] }
    private let free = Mutex(Free())
    private let size: Int

    init(size: Int) { self.size = size }
    deinit { free.withLock { free in for buffer in free.buffers { buffer.deallocate() } } }

    func with<R>(_ body: (UnsafeMutableRawBufferPointer) -> R) -> R {
        let buffer = take()
        defer { give(buffer) }
        return body(buffer)
    }

    private func take() -> UnsafeMutableRawBufferPointer {
        struct Taken: @unchecked Sendable { let buffer: UnsafeMutableRawBufferPointer? }
        return free.withLock { Taken(buffer: $0.buffers.popLast()) }.buffer ?? .allocate(byteCount: size, alignment: 4096)
    }

    private func give(_ buffer: UnsafeMutableRawBufferPointer) {
        struct Given: @unchecked Sendable { let buffer: UnsafeMutableRawBufferPointer }
        let given = Given(buffer: buffer)
        let isKept = free.withLock { free in
            guard free.buffers.count < Self.kept else { return false }
            free.buffers.append(given.buffer)
            return true
        }
        if !isKept { buffer.deallocate() }
    }
}
