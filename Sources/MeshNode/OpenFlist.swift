internal import ChunkModel
internal import ChunkStore
internal import Flist
internal import LegacyFlist
internal import UpstreamStores

/// An flist that this node knows: its file, its chunks in the order that availability is told in, and the way to upstream.
final class OpenFlist: Sendable {
    let digest: FlistDigest
    let file: FlistFile
    let fileBytes: Int64
    /// Every chunk once, in the order of first use; index i is bit i of all bitmaps.
    let chunks: [ChunkID]
    /// Upstreams that this node may open for it; `nil` when there are none.
    let upstream: RoutedUpstream?
    private let indices: [ChunkID: Int32]
    /// A bit for each chunk.
    private let wholeBlocks: [UInt64]

    /// Reads the list of chunks, after making the index of a legacy flist where there is none: blocking, for seconds when it is large.
    ///
    /// - Parameter upstream: makes the way to upstream from the flist's routes.
    init(digest: FlistDigest, path: String, fileBytes: Int64, files: FlistFiles, upstream: ([Route]) -> RoutedUpstream?) throws {
        self.digest = digest
        self.fileBytes = fileBytes
        file = try Self.file(digest, path: path, files: files)
        (chunks, wholeBlocks) = try file.uniqueChunksAndWholeBlocks()
        var indices: [ChunkID: Int32] = Dictionary(minimumCapacity: chunks.count)
        for (index, chunk) in chunks.enumerated() { indices[chunk] = Int32(clamping: index) }
        self.indices = indices
        self.upstream = upstream(file.routes)
    }

    func index(of chunk: ChunkID) -> Int? { indices[chunk].map(Int.init) }

    /// Whether the chunk is a block that another one of its file follows: those are as long as blocks are.
    func isWholeBlock(_ chunk: ChunkID) -> Bool {
        index(of: chunk).map { wholeBlocks[$0 / 64] & 1 << ($0 % 64) != 0 } ?? false
    }

    /// The flist at `path`, in either format: blocking.
    static func file(_ digest: FlistDigest, path: String, files: FlistFiles) throws(FlistError) -> FlistFile {
        try FlistFormat.open(path: path, index: files.indexPath(of: digest), scratch: files.scratch)
    }
}
