public import BlockCodec
public import BlockingThreads
public import ChunkModel
public import Flist

/// Reads content of an flist lazily: only the chunks of the range that is asked for travel.
///
/// (path, offset, length) → inode and blocks → chunks from `source` → verified, decrypted, decompressed, sliced.
public final class FlistReader: Sendable {
    public let flist: FlistFile
    private let source: any ChunkSource
    /// The same, where it can say at once what is on this machine.
    private let here: (any BlockingChunkSource)?
    private let threads: BlockingThreads
    private let cache: DecodedBlockCache
    private let pool: ChunkBufferPool
    private let onRead: (@Sendable (ChunkID) -> Void)?

    /// - Parameters:
    ///   - threads: for look-ups in the flist and for decoding.
    ///   - cache: may be shared between readers: blocks are found by their chunk id.
    ///   - onRead: called with each block that is asked for, wherever it comes from, before it is looked for.
    public init(
        flist: FlistFile, source: any ChunkSource, threads: BlockingThreads, cache: DecodedBlockCache, pool: ChunkBufferPool,
        onRead: (@Sendable (ChunkID) -> Void)? = nil
    ) {
        (self.flist, self.source, self.threads, self.cache, self.pool) = (flist, source, threads, cache, pool)
        self.onRead = onRead
        here = source as? any BlockingChunkSource
    }

    /// The entry at `path`, symbolic links followed inside the flist.
    ///
    /// - Throws: `FlistError`.
    public func entry(at path: [UInt8], followLinks: Bool = true) async throws -> FlistEntry {
        try await threads.run { [flist] in try flist.resolve(path, followLinks: followLinks) }
    }

    /// Opens a regular file for reading.
    ///
    /// - Throws: `FlistError` when the entry is no file or its blocks cannot be used.
    public func open(_ entry: FlistEntry) async throws -> OpenFile {
        let blocks = try await threads.run { [flist] in try flist.blocks(of: entry) }
        return OpenFile(
            entry: entry, blocks: blocks, decoded: { [self] index in decoded(blocks[index]) },
            fetch: { [self] index, priority in try await plain(blocks[index], priority: priority) })
    }

    private func decoded(_ block: BlockRef) -> ChunkBuffer? {
        guard let buffer = cache.block(block.id, block.key) else { return nil }
        onRead?(block.id)
        return buffer
    }

    private func plain(_ block: BlockRef, priority: FetchPriority) async throws -> ChunkBuffer {
        onRead?(block.id)
        if let decoded = cache.block(block.id, block.key) { return decoded }
        // Read and decoded in one go where the chunk is on this machine.
        if let here {
            let decoded = try await threads.run { [pool] in
                try here.chunkNow(block.id, pool: pool).map { try BlockCodec.decode($0, as: block, pool: pool) }
            }
            if let decoded { return keep(decoded, block) }
        }
        guard let chunk = try await source.chunk(block.id, priority: priority) else { throw ReadError(chunk: block.id) }
        return keep(try await threads.run { [pool] in try BlockCodec.decode(chunk, as: block, pool: pool) }, block)
    }

    private func keep(_ decoded: ChunkBuffer, _ block: BlockRef) -> ChunkBuffer {
        cache.insert(decoded, for: block.id, block.key)
        return decoded
    }
}

/// A regular file of an flist.
public final class OpenFile: Sendable {
    public let entry: FlistEntry
    /// In the order of the content.
    public let blocks: [BlockRef]
    private let reader: FileReader
    private let decodedBlock: @Sendable (Int) -> ChunkBuffer?

    init(
        entry: FlistEntry, blocks: [BlockRef], decoded: @escaping @Sendable (Int) -> ChunkBuffer?,
        fetch: @escaping @Sendable (Int, FetchPriority) async throws -> ChunkBuffer
    ) {
        (self.entry, self.blocks, decodedBlock) = (entry, blocks, decoded)
        reader = FileReader(size: entry.size, blockCount: blocks.count) { try await fetch($0, .foreground) }
    }

    public var size: UInt64 { entry.size }
    public var blockCount: Int { blocks.count }

    /// BLAKE2b-256 over the keys of the blocks, which are hashes of their plain content: equal content, equal tag.
    public var contentTag: String {
        let hash = Blake2bStream()
        for block in blocks { block.key.bytes.withUnsafeBytes { hash.update($0) } }
        return String(hash.finish().hex.prefix(32))
    }

    /// Bytes from `offset` to the end of their block, at most `length`, where that block is decoded already; `nil` when it is to be read.
    public func decoded(offset: UInt64, length: Int) -> BlockSlice? {
        guard let index = reader.likelyBlocks(offset: offset, length: length).first else { return nil }
        let start = UInt64(index) * UInt64(ChunkLimits.blockBytes)
        // Of another length than evenly cut ones have, its place is another one.
        guard let buffer = decodedBlock(index), UInt64(buffer.count) == min(UInt64(ChunkLimits.blockBytes), size - start) else {
            return nil
        }
        let first = Int(offset - start)
        return BlockSlice(buffer: buffer, range: first..<first + min(buffer.count - first, length))
    }

    /// Up to `length` bytes from `offset`, as slices of decoded blocks; fewer only at the end of the file.
    ///
    /// - Throws: what the source, the codec or the layout of the blocks has to say; never wrong bytes.
    public func read(offset: UInt64, length: Int) async throws -> [BlockSlice] { try await reader.read(offset: offset, length: length) }
}

/// A chunk that no source has.
public struct ReadError: Error, CustomStringConvertible, Sendable {
    public let chunk: ChunkID
    public var description: String { "chunk \(chunk.hex) is nowhere to be had" }
}
