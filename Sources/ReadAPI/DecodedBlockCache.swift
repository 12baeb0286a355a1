public import BlockCodec
public import ChunkModel
internal import Synchronization

/// The blocks decoded last, so that small reads in one place decode it once. Bounded by bytes; the one used longest ago goes first.
public final class DecodedBlockCache: Sendable {
    private struct Entry {
        let buffer: ChunkBuffer
        var used: UInt64
    }
    /// The same chunk with another key is not the same block: it is none.
    private struct Key: Hashable {
        let id: ChunkID
        let key: BlockKey
    }
    private struct State {
        var entries: [Key: Entry] = [:]
        var bytes = 0
        var clock: UInt64 = 0
    }
    private let state = Mutex(State())
    private let maxBytes: Int

    /// Buffers stand on pages of their own.
    private static func memory(of buffer: ChunkBuffer) -> Int { max(buffer.capacity, 4096) }

    /// Memory that is taken, never more than `maxBytes`.
    var bytes: Int { state.withLock { $0.bytes } }

    /// - Parameter maxBytes: memory for decoded blocks.
    public init(maxBytes: Int = 32 << 20) { self.maxBytes = maxBytes }

    /// The decoded block, if it is here.
    public func block(_ id: ChunkID, _ key: BlockKey) -> ChunkBuffer? {
        let key = Key(id: id, key: key)
        return state.withLock { state in
            state.clock += 1
            state.entries[key]?.used = state.clock
            return state.entries[key]?.buffer
        }
    }

    /// Keeps a block that was decoded from this chunk with this key.
    public func insert(_ buffer: ChunkBuffer, for id: ChunkID, _ key: BlockKey) {
        // A small block would keep a pooled buffer of full size from being used again.
        let buffer = buffer.count < buffer.capacity / 2 ? buffer.withBytes { ChunkBuffer(copying: $0) } : buffer
        let bytes = Self.memory(of: buffer)
        guard bytes <= maxBytes else { return }
        state.withLock { state in
            state.clock += 1
            guard state.entries.updateValue(Entry(buffer: buffer, used: state.clock), forKey: Key(id: id, key: key)) == nil else { return }
            state.bytes += bytes
            while state.bytes > maxBytes, let oldest = state.entries.min(by: { $0.value.used < $1.value.used }) {
                state.entries[oldest.key] = nil
                state.bytes -= Self.memory(of: oldest.value.buffer)
            }
        }
    }
}
