/// A store that chunks are put into: a directory, a zdb, a bucket.
///
/// Calls suspend while the store works; callers bound how many are under way at once.
public protocol ChunkSink: Sendable {
    /// The URL without user name and password, for logs and error lines.
    var label: String { get }
    /// Whether the store has the chunk already, so that it need not be sent.
    func contains(_ id: ChunkID) async throws -> Bool
    /// Keeps the chunk; afterwards `contains` says so. Storing the same chunk again is no error.
    func store(_ chunk: Chunk) async throws
}

/// A sink whose work is short and on this machine: a thread that may block calls it directly, which spares the hops between threads
/// that would cost more than the work where chunks are small.
public protocol BlockingChunkSink: ChunkSink {
    func containsNow(_ id: ChunkID) throws -> Bool
    func storeNow(_ chunk: Chunk) throws
}

/// A source whose work is short and on this machine, for the same reason.
public protocol BlockingChunkSource: ChunkSource {
    /// The chunk, verified; `nil` when it is not there.
    func chunkNow(_ id: ChunkID, pool: ChunkBufferPool) throws -> Chunk?
}
