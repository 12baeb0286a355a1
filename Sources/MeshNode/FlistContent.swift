internal import ChunkModel
internal import ControlAPI
internal import Flist
internal import ReadAPI

/// Chunks of one flist by way of the fetcher.
struct FlistSource: ChunkSource {
    let fetcher: ChunkFetcher
    let flist: FlistDigest

    func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk? {
        try await fetcher.fetch(id, flist: flist, priority: priority).chunk
    }
}

/// A file of an flist, as the API serves it.
struct FlistContent: ServedFile {
    let file: OpenFile
    let entityTag: String

    init(file: OpenFile) { (self.file, entityTag) = (file, file.contentTag) }

    var size: UInt64 { file.size }
    var mtime: Int64 { file.entry.mtime }

    func read(at offset: UInt64, atMost length: Int) async throws -> (buffer: ChunkBuffer, range: Range<Int>) {
        // To the end of the block at most: the next one is asked for when this one is on its way.
        let block = UInt64(ChunkLimits.blockBytes)
        let room = Int(block - offset % block)
        guard let slice = try await file.read(offset: offset, length: min(length, room)).first else { return (ChunkBuffer(capacity: 0), 0..<0) }
        return (slice.buffer, slice.range)
    }
}
