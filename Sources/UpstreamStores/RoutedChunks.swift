internal import BlockingThreads
public import ChunkModel

/// Verified chunks from an flist's routes, or from stores in their place, without a node.
public struct RoutedChunks: ChunkSource {
    private let upstream: RoutedUpstream
    private let threads = BlockingThreads()
    private let pool = ChunkBufferPool()

    /// - Parameter stores: URLs that chunks are read from instead of the routes; none: the routes.
    public init(_ routes: [Route], stores: [String], opener: StoreOpener) {
        upstream = RoutedUpstream(routes: routes, operatorURLs: stores, override: !stores.isEmpty, opener: opener)
    }

    /// - Throws: `UpstreamError` of another kind than `missing`, for which the answer is `nil`.
    public func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk? {
        do throws(UpstreamError) {
            return try await upstream.chunk(id, priority: priority, pool: pool) { [threads] buffer, id in
                await threads.run { Chunk(verifying: buffer, as: id) }
            }
        } catch {
            if case .missing = error { return nil }
            throw error
        }
    }
}
