internal import BlockingThreads
public import BlockCodec
public import ChunkModel
internal import Flist

/// Plain blocks from a source of chunks, decoded on threads of its own.
public final class BlockReader: Sendable {
    private let source: any ChunkSource
    private let direct: (any BlockingChunkSource)?
    private let priority: FetchPriority
    private let threads: BlockingThreads
    private let pool = ChunkBufferPool(keep: 32)

    public init(_ source: any ChunkSource, priority: FetchPriority = .foreground) {
        self.source = source
        direct = source as? any BlockingChunkSource
        self.priority = priority
        threads = BlockingThreads(count: BlockingThreads.machineThreads)
    }

    /// - Throws: `ToolError` when no source has the chunk, `BlockError` when it doesn't decode, and what the source throws.
    public func plainBlock(_ ref: BlockRef) async throws -> ChunkBuffer {
        guard direct == nil else { return try await threads.run { try self.plainNow(ref) } }
        guard let chunk = try await source.chunk(ref.id, priority: priority) else { throw Self.notFound(ref.id) }
        return try await threads.run { [pool] in try BlockCodec.decode(chunk, as: ref, pool: pool) }
    }

    /// Whether `plainNow` may be called.
    var isDirect: Bool { direct != nil }

    /// The same on the thread that calls, which may block.
    func plainNow(_ ref: BlockRef) throws -> ChunkBuffer {
        guard let chunk = try direct?.chunkNow(ref.id, pool: pool) else { throw Self.notFound(ref.id) }
        return try BlockCodec.decode(chunk, as: ref, pool: pool)
    }

    private static func notFound(_ id: ChunkID) -> ToolError { ToolError("block \(id.hex) not found") }
}

/// Directory stores as a source of chunks: what `--store dir://…` reads from, or an flist's own routes when all that is needed
/// are directories.
public final class DirStoreSource: BlockingChunkSource {
    private let stores: [(range: ClosedRange<UInt8>, store: DirStore)]
    private let unsupported: [Route]
    private let threads: BlockingThreads
    private let pool = ChunkBufferPool(keep: 32)

    public init(_ stores: [DirStore]) {
        self.stores = stores.map { (0...255, $0) }
        unsupported = []
        threads = BlockingThreads(count: BlockingThreads.machineThreads)
    }

    /// - Parameter routes: those that are not `dir://` are passed over, and named when nothing else has a chunk.
    public init(routes: [Route]) {
        var stores: [(range: ClosedRange<UInt8>, store: DirStore)] = []
        var unsupported: [Route] = []
        for route in routes {
            if let store = try? DirStore(url: route.url) {
                stores.append((route.range.firstBytes, store))
            } else {
                unsupported.append(route)
            }
        }
        (self.stores, self.unsupported) = (stores, unsupported)
        threads = BlockingThreads(count: BlockingThreads.machineThreads)
    }

    /// Whether all of an flist's routes are directories, and there are any.
    public static func covers(_ routes: [Route]) -> Bool { !routes.isEmpty && routes.allSatisfy { (try? DirStore(url: $0.url)) != nil } }

    public func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk? {
        try await threads.run { [pool] in try self.chunkNow(id, pool: pool) }
    }

    public func chunkNow(_ id: ChunkID, pool: ChunkBufferPool) throws -> Chunk? {
        var failure: (any Error)?
        var asked = 0
        for (range, store) in stores where range.contains(id.firstByte) {
            asked += 1
            do {
                if let chunk = try store.load(id, pool: pool) { return chunk }
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
        if let route = unsupported.first(where: { $0.range.contains(id) }) {
            throw ToolError("block \(id.hex): unsupported store \(FlistPath.quoted(Array(route.url.utf8)))")
        }
        guard asked > 0 else { throw ToolError("block \(id.hex): no route for ids that start with \(Hex.encode([id.firstByte]))") }
        return nil
    }
}
