internal import ChunkModel
internal import DecodedFiles

/// The chunks of one flist by way of the fetcher, for decoding them into files.
struct FetchedBlocks: BlockSource {
    let fetcher: ChunkFetcher
    let flist: FlistDigest

    func chunkNow(_ id: ChunkID, pool: ChunkBufferPool) throws -> Chunk? {
        guard fetcher.parts.store.contains(id), let chunk = try fetcher.parts.store.read(id, into: pool) else { return nil }
        fetcher.parts.counters.arrived(from: .local, bytes: chunk.byteCount)
        return chunk
    }

    func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk? {
        try await fetcher.fetch(id, flist: flist, priority: priority).chunk
    }

    func hasten(_ id: ChunkID, priority: FetchPriority) async { _ = try? await fetcher.ensure(id, flist: flist, priority: priority) }
}
