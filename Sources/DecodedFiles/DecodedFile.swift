internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
internal import Glibc
internal import Synchronization

/// The decoded bytes of one content, in a sparse file that is filled block by block. A range that is ready stays: what was written is never
/// changed, and a descriptor reads it also when the cache has let go of the file.
///
/// Its bytes count into the cache's room as long as this object lives.
public final class DecodedFile: Sendable {
    /// Open file, for writing and, apart from it, for handing out. Closed with its last reference, which may go on any thread: the last
    /// close of a large file that was let go of takes its time.
    final class Handle: Sendable {
        let writer: Int32
        let reader: Int32
        private let threads: BlockingThreads
        init(writer: Int32, reader: Int32, threads: BlockingThreads) {
            (self.writer, self.reader, self.threads) = (writer, reader, threads)
        }
        deinit {
            threads.start { [writer, reader] in
                close(writer)
                close(reader)
            }
        }
    }

    /// Somebody who waits for blocks. Changed under the file's lock only.
    final class Waiter: @unchecked Sendable {
        var remaining = 0
        var isDone = false
        let resume: @Sendable (Result<Void, any Error>) -> Void
        init(_ resume: @escaping @Sendable (Result<Void, any Error>) -> Void) { self.resume = resume }
    }

    /// A block that is being got.
    struct Fill {
        let turn: UInt64
        var priority: FetchPriority
        var waiters: [Waiter]
        /// On a thread, or behind it.
        var isStarted = false
        /// Asked of the source, which may take its time.
        var isFetching = false
        var task: Task<Void, Never>?
    }

    struct State {
        /// A bit for each block.
        var bits: [UInt64]
        var readyBlocks = 0
        /// On the disk.
        var bytes: Int64 = 0
        var fills: [Int: Fill] = [:]
        var turns: UInt64 = 0
        var handle: Handle?
        /// No longer in the cache.
        var isGone = false
        var isUneven = false
        /// Clients that hold its descriptor, and how they are told to let go of it.
        var holders: [UInt64: @Sendable () -> Void] = [:]

        func isReady(_ block: Int) -> Bool { bits[block >> 6] >> UInt64(block & 63) & 1 == 1 }
        mutating func setReady(_ block: Int) {
            guard !isReady(block) else { return }
            bits[block >> 6] |= 1 << UInt64(block & 63)
            readyBlocks += 1
        }
    }

    /// Blocks that one answer says to be ready beyond the range that was asked for, unless the file is whole.
    static let maxRun = 16

    /// Names this file as long as the process runs; another one of the same content has another number.
    public let number: UInt64
    public let size: UInt64
    let identity: ContentIdentity
    let blocks: [BlockRef]
    let room: DecodedRoom
    let state: Mutex<State>
    let used = Atomic<UInt64>(0)

    init(number: UInt64, size: UInt64, identity: ContentIdentity, blocks: [BlockRef], room: DecodedRoom, bits: [UInt64]? = nil) {
        (self.number, self.size, self.identity, self.blocks, self.room) = (number, size, identity, blocks, room)
        var state = State(bits: [UInt64](repeating: 0, count: (Self.blockCount(size) + 63) / 64))
        if let bits, bits.count == state.bits.count {
            for block in 0..<Self.blockCount(size) where bits[block >> 6] >> UInt64(block & 63) & 1 == 1 {
                state.setReady(block)
                state.bytes += Self.diskBytes(Self.length(ofBlock: block, size))
            }
        }
        room.add(state.bytes)
        self.state = Mutex(state)
    }

    deinit { room.add(-state.withLock { $0.bytes }) }

    static func blockCount(_ size: UInt64) -> Int {
        let block = UInt64(ChunkLimits.blockBytes)
        return Int(size / block) + (size % block == 0 ? 0 : 1)
    }
    static func length(ofBlock block: Int, _ size: UInt64) -> Int {
        Int(min(UInt64(ChunkLimits.blockBytes), size - UInt64(block) * UInt64(ChunkLimits.blockBytes)))
    }
    /// What a file system takes for as many bytes.
    static func diskBytes(_ count: Int) -> Int64 { Int64((count + 4095) & ~4095) }

    public var blockCount: Int { Self.blockCount(size) }
    /// Whether the cache has let go of it, or its blocks have no known places: ask the cache for it again.
    public var isGone: Bool { state.withLock { $0.isGone || $0.isUneven } }
    public var isUneven: Bool { state.withLock { $0.isUneven } }
    public var isWhole: Bool { state.withLock { $0.readyBlocks == blockCount } }

    /// Bytes that are there.
    public var readyBytes: UInt64 {
        let (ready, isLast) = state.withLock { state in
            (state.readyBlocks, blockCount > 0 && state.isReady(blockCount - 1))
        }
        guard isLast else { return UInt64(ready) * UInt64(ChunkLimits.blockBytes) }
        return UInt64(ready - 1) * UInt64(ChunkLimits.blockBytes) + UInt64(Self.length(ofBlock: blockCount - 1, size))
    }

    /// The blocks that `length` bytes from `offset` lie in; empty past the end.
    public func blocks(offset: UInt64, length: Int) -> Range<Int> {
        guard offset < size, length > 0 else { return 0..<0 }
        let last = offset + min(UInt64(length), size - offset) - 1
        return Int(offset / UInt64(ChunkLimits.blockBytes))..<Int(last / UInt64(ChunkLimits.blockBytes)) + 1
    }

    /// The range of bytes that is ready around these blocks, and whether the file is whole; `nil` when one of them is missing.
    public func ready(_ wanted: Range<Int>) -> (range: Range<UInt64>, isWhole: Bool)? {
        state.withLock { state in
            if state.readyBlocks == blockCount { return (0..<size, true) }
            guard !wanted.isEmpty, wanted.allSatisfy({ state.isReady($0) }) else { return nil }
            var end = wanted.upperBound
            while end < blockCount, end - wanted.upperBound < Self.maxRun, state.isReady(end) { end += 1 }
            let block = UInt64(ChunkLimits.blockBytes)
            return (UInt64(wanted.lowerBound) * block..<min(size, UInt64(end) * block), false)
        }
    }

    /// Where the ready bytes from `offset` end, `end` at most; `offset` when its own block is missing.
    public func readyEnd(from offset: UInt64, upTo end: UInt64) -> UInt64 {
        let end = min(end, size)
        guard offset < end else { return offset }
        return state.withLock { state in
            if state.readyBlocks == blockCount { return end }
            let unit = UInt64(ChunkLimits.blockBytes)
            var block = Int(offset / unit)
            while UInt64(block) * unit < end, state.isReady(block) { block += 1 }
            return min(max(offset, UInt64(block) * unit), end)
        }
    }

    /// Notes that a client holds the descriptor; `onGone` is called, once, when the cache lets go of the file.
    ///
    /// - Returns: `false` when that has happened already.
    public func hold(by client: UInt64, onGone: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            guard !state.isGone else { return false }
            state.holders[client] = onGone
            return true
        }
    }

    public func release(by client: UInt64) { state.withLock { $0.holders[client] = nil } }
}

/// The descriptor of a decoded file, for reading, open as long as this lives.
public struct DecodedDescriptor: Sendable {
    let handle: DecodedFile.Handle
    public var fd: Int32 { handle.reader }
}
