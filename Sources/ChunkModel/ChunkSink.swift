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
