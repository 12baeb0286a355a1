public import ChunkModel

/// Where the chunks of blocks come from that are decoded.
///
/// `chunkNow` answers from what is on this machine, `chunk` gets it from wherever it is.
public protocol BlockSource: BlockingChunkSource {
    /// Somebody waits more urgently now for a chunk that `chunk` was asked for. Returns when it is there, or is not to be had; what it
    /// throws is of no interest.
    func hasten(_ id: ChunkID, priority: FetchPriority) async
}

/// Why a block does not stand in the decoded file.
public enum DecodedFileError: Error, Sendable, Equatable, CustomStringConvertible {
    /// No source has the chunk.
    case missing(ChunkID)
    /// The cache is off or full, the disk is full, or the file was let go of meanwhile. The block was given to `onUnstored`.
    case noRoom
    /// The blocks are not cut as all writers cut them, so their places are not known. The block was given to `onUnstored`.
    case uneven

    public var description: String {
        switch self {
        case .missing(let id): "chunk \(id.hex) is nowhere to be had"
        case .noRoom: "no room for decoded files"
        case .uneven: "its blocks are not cut evenly"
        }
    }
}
