internal import ChunkModel
internal import Synchronization

/// The blocks decoded last, so that small reads in one place decode it once. Bounded by bytes; the one used longest ago goes first.
public final class DecodedBlockCache: Sendable {
    private struct Entry {
        let buffer: ChunkBuffer
        var used: UInt64
    }
    private struct State {
        var entries: [ChunkID: Entry] = [:]
        var bytes = 0
        var clock: UInt64 = 0
    }
    private let state = Mutex(State())
    private let maxBytes: Int

    /// - Parameter maxBytes: plain bytes kept.
    public init(maxBytes: Int = 32 << 20) { self.maxBytes = maxBytes }

    func block(_ id: ChunkID) -> ChunkBuffer? {
        state.withLock { state in
            state.clock += 1
            state.entries[id]?.used = state.clock
            return state.entries[id]?.buffer
        }
    }

    func insert(_ buffer: ChunkBuffer, for id: ChunkID) {
        guard buffer.count <= maxBytes else { return }
        state.withLock { state in
            state.clock += 1
            guard state.entries.updateValue(Entry(buffer: buffer, used: state.clock), forKey: id) == nil else { return }
            state.bytes += buffer.count
            while state.bytes > maxBytes, let oldest = state.entries.min(by: { $0.value.used < $1.value.used }) {
                state.entries[oldest.key] = nil
                state.bytes -= oldest.value.buffer.count
            }
        }
    }
}
