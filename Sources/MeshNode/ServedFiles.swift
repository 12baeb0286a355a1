internal import Synchronization

/// The files that HTTP clients asked for last, open: a client that reads a file in a thousand ranges has it looked up once.
final class ServedFiles: Sendable {
    /// Files kept; the one used longest ago goes first.
    static let maxFiles = 256
    /// Blocks of all of them together (about 80 bytes each); a file of more is not kept.
    static let maxBlocks = 128 * 1024

    private struct Key: Hashable {
        let flist: ObjectIdentifier
        let path: [UInt8]
    }
    private struct Kept {
        /// Closed, it is forgotten; another one may then have its address.
        weak var flist: OpenFlist?
        let content: FlistContent
        var used: UInt64
    }
    private struct State {
        var files: [Key: Kept] = [:]
        var blocks = 0
        var clock: UInt64 = 0
    }
    private let state = Mutex(State())

    var count: Int { state.withLock { $0.files.count } }

    func file(_ flist: OpenFlist, _ path: [UInt8]) -> FlistContent? {
        let key = Key(flist: ObjectIdentifier(flist), path: path)
        return state.withLock { state in
            guard let kept = state.files[key], kept.flist === flist else { return nil }
            state.clock += 1
            state.files[key]!.used = state.clock
            return kept.content
        }
    }

    func keep(_ content: FlistContent, _ flist: OpenFlist, _ path: [UInt8]) {
        let blocks = content.file.blockCount
        guard blocks <= Self.maxBlocks else { return }
        state.withLock { state in
            dropClosed(&state)
            state.clock += 1
            let kept = Kept(flist: flist, content: content, used: state.clock)
            if let old = state.files.updateValue(kept, forKey: Key(flist: ObjectIdentifier(flist), path: path)) {
                state.blocks -= old.content.file.blockCount
            }
            state.blocks += blocks
            while state.files.count > Self.maxFiles || state.blocks > Self.maxBlocks,
                let oldest = state.files.min(by: { $0.value.used < $1.value.used })
            {
                state.files[oldest.key] = nil
                state.blocks -= oldest.value.content.file.blockCount
            }
        }
    }

    /// Lets go of the flist's files.
    func drop(_ flist: OpenFlist) {
        state.withLock { state in
            for (key, kept) in state.files where kept.flist === flist {
                state.files[key] = nil
                state.blocks -= kept.content.file.blockCount
            }
        }
    }

    private func dropClosed(_ state: inout State) {
        for (key, kept) in state.files where kept.flist == nil {
            state.files[key] = nil
            state.blocks -= kept.content.file.blockCount
        }
    }
}
