public import ChunkModel
internal import Synchronization

/// A piece of a decoded block; keeps the block's buffer alive.
public struct BlockSlice: Sendable {
    public let buffer: ChunkBuffer
    public let range: Range<Int>

    public init(buffer: ChunkBuffer, range: Range<Int>) { (self.buffer, self.range) = (buffer, range) }

    /// Runs `body` on the slice's bytes.
    public func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try buffer.withBytes { try body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }
}

/// Random access to a file of which only the number of blocks is known, not where they begin (FORMATS.md §1.3).
///
/// As long as every block that is decoded has the length that cutting at `ChunkLimits.blockBytes` gives, block i is taken to
/// begin at i × `blockBytes`. From the first one that differs on, the places are found by decoding from the start, and each
/// length is remembered. Blocks that don't add up to the file's size are an error, not zeros and not other bytes.
public final class FileReader: Sendable {
    public let size: UInt64
    public let blockCount: Int
    private let fetch: @Sendable (Int) async throws -> ChunkBuffer
    private let places: Mutex<Places>

    fileprivate struct Places {
        /// Whether all lengths seen so far were those that writers make.
        var even: Bool
        /// Where the first blocks begin, and where the last of them ends: never empty.
        var starts: [UInt64] = [0]
    }

    /// - Parameters:
    ///   - size: of the file, from its inode.
    ///   - blockCount: how many blocks it has.
    ///   - fetch: the plain bytes of a block, by its place among the blocks; may be asked for the same one again.
    public init(size: UInt64, blockCount: Int, fetch: @escaping @Sendable (Int) async throws -> ChunkBuffer) {
        (self.size, self.blockCount, self.fetch) = (size, blockCount, fetch)
        let block = UInt64(ChunkLimits.blockBytes)
        places = Mutex(Places(even: UInt64(blockCount) == size / block + (size % block == 0 ? 0 : 1)))
    }

    /// The blocks in which `length` bytes from `offset` lie if the file is evenly cut: what to fetch ahead. Empty when it is
    /// known not to be, or past the end.
    public func likelyBlocks(offset: UInt64, length: Int) -> Range<Int> {
        guard places.withLock({ $0.even }), offset < size, length > 0 else { return 0..<0 }
        let block = UInt64(ChunkLimits.blockBytes)
        let last = offset + min(UInt64(length), size - offset) - 1
        return Int(offset / block)..<Int(last / block) + 1
    }

    /// Up to `length` bytes from `offset`, in slices; fewer only at the end of the file. Holds the blocks of the whole range in
    /// memory at once, so callers read long ranges in steps.
    ///
    /// - Throws: what `fetch` throws; `FlistError.badBlocks` when the blocks don't add up.
    public func read(offset: UInt64, length: Int) async throws -> [BlockSlice] {
        guard offset < size, length > 0 else { return [] }
        let end = offset + min(UInt64(length), size - offset)
        if places.withLock({ $0.even }), let slices = try await readEven(offset..<end) { return slices }
        return try await readUneven(offset..<end)
    }

    /// `nil` when a block is not as long as it should be.
    private func readEven(_ range: Range<UInt64>) async throws -> [BlockSlice]? {
        let block = UInt64(ChunkLimits.blockBytes)
        var slices: [BlockSlice] = []
        var position = range.lowerBound
        while position < range.upperBound {
            let start = position / block * block
            let buffer = try await fetch(Int(position / block))
            guard UInt64(buffer.count) == min(block, size - start) else {
                places.withLock { $0.even = false }
                return nil
            }
            let stop = min(range.upperBound, start + block)
            slices.append(BlockSlice(buffer: buffer, range: Int(position - start)..<Int(stop - start)))
            position = stop
        }
        return slices
    }

    private func readUneven(_ range: Range<UInt64>) async throws -> [BlockSlice] {
        var slices: [BlockSlice] = []
        var index = places.withLock { $0.firstKnown(before: range.lowerBound) }
        var start = places.withLock { $0.starts[index] }
        while start < range.upperBound {
            guard index < blockCount else {
                throw FlistError(.badBlocks, "its blocks hold \(start) bytes, its size is \(size)")
            }
            let buffer = try await fetch(index)
            guard buffer.count > 0 else { throw FlistError(.badBlocks, "block \(index) is empty") }
            let (stop, overflow) = start.addingReportingOverflow(UInt64(buffer.count))
            guard !overflow, stop <= size else { throw FlistError(.badBlocks, "its blocks hold more than its size of \(size) bytes") }
            guard stop < size || index == blockCount - 1 else {
                throw FlistError(.badBlocks, "it has more blocks than its size of \(size) bytes needs")
            }
            let (known, next) = (index, stop)
            places.withLock { places in
                if places.starts.count == known + 1 { places.starts.append(next) }
            }
            if stop > range.lowerBound {
                let from = max(range.lowerBound, start)
                let to = min(range.upperBound, stop)
                slices.append(BlockSlice(buffer: buffer, range: Int(from - start)..<Int(to - start)))
            }
            index += 1
            start = stop
        }
        return slices
    }
}

extension FileReader.Places {
    /// The last block that is known to begin at or before `offset`.
    fileprivate func firstKnown(before offset: UInt64) -> Int {
        var low = 0
        var high = starts.count
        while low < high {
            let middle = low + (high - low) / 2
            if starts[middle] <= offset { low = middle + 1 } else { high = middle }
        }
        return max(0, low - 1)
    }
}
