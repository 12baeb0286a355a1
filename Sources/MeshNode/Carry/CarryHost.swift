internal import BlockingThreads
internal import CarryFile
internal import ChunkModel
internal import ChunkStore

/// The cache that is written to a file or filled from one: that of a running node, or a directory that no daemon holds.
protocol CarryHost: Sendable {
    var store: ChunkStore { get }
    var files: FlistFiles { get }
    var flists: FlistTable { get }
    var threads: BlockingThreads { get }
    var pool: ChunkBufferPool { get }

    /// Makes an flist known that lies among `files` now; removes it there when it is refused.
    func admit(_ entry: FlistFiles.Entry, _ note: CarryNote) async throws -> FlistTable.Entry
    /// A chunk has been stored. Blocking.
    func stored(_ chunk: ChunkID)
    /// The chunk, for an export; `nil` when it cannot be had. Does not count as a use of it.
    func chunk(_ id: ChunkID, of flist: FlistDigest) async -> Chunk?
}
