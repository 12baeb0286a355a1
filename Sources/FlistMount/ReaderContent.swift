public import BlockingThreads
internal import Flist
public import ReadAPI
internal import Synchronization

/// Content decoded in this process from whatever source a reader has: for mounts without a daemon.
public final class ReaderContent: MountContent {
    /// Files whose lists of blocks are kept.
    static let maxFiles = 1024
    /// Blocks in these lists (about 100 bytes each); the list of a larger file is kept alone.
    static let maxBlocks = 1 << 18

    private struct State {
        var files: [Int64: (file: OpenFile, used: UInt64, weight: Int)] = [:]
        var weight = 0
        var clock: UInt64 = 0
    }

    private let reader: FlistReader
    private let threads: BlockingThreads
    private let state = Mutex(State())

    public init(reader: FlistReader, threads: BlockingThreads) { (self.reader, self.threads) = (reader, threads) }

    public var hasWholeFiles: Bool { false }
    public func ready(_ ino: Int64, offset: UInt64, length: Int) -> ContentPiece? { nil }
    public func wholeFile(_ ino: Int64) async -> (any DecodedContent)? { nil }
    public func prefetch() async throws { throw Self.noPrefetch }

    /// Chunks that come ahead need a place where they are kept.
    public static let noPrefetch = MountError(.usage, "prefetch needs the daemon, which keeps the chunks")

    public func read(_ ino: Int64, offset: UInt64, length: Int) async throws -> ContentPiece {
        .slices(try await file(ino).read(offset: offset, length: length))
    }

    private func file(_ ino: Int64) async throws -> OpenFile {
        let known = state.withLock { state -> OpenFile? in
            state.clock += 1
            state.files[ino]?.used = state.clock
            return state.files[ino]?.file
        }
        if let known { return known }
        let flist = reader.flist
        guard let entry = try await threads.run({ try flist.inode(ino) }) else { throw FlistError(.notFound, "no inode \(ino)") }
        let file = try await reader.open(entry)
        let weight = Int(clamping: entry.size >> 19) + 1
        state.withLock { state in
            guard state.files[ino] == nil else { return }
            state.files[ino] = (file, state.clock, weight)
            state.weight += weight
            while state.files.count > Self.maxFiles || (state.weight > Self.maxBlocks && state.files.count > 1),
                let oldest = state.files.min(by: { $0.value.used < $1.value.used })
            {
                state.files[oldest.key] = nil
                state.weight -= oldest.value.weight
            }
        }
        return file
    }
}
