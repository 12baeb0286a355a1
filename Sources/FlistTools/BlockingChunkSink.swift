public import ChunkModel

/// Where packing puts chunks. Called from several threads at once; calls may block.
public protocol BlockingChunkSink: Sendable {
    /// Whether the chunk is there already, so that it need not be sent.
    func contains(_ id: ChunkID) throws -> Bool
    /// Keeps `stored`, whose id is `id`; afterwards `contains` says so.
    func store(_ id: ChunkID, _ stored: UnsafeRawBufferPointer) throws
}
