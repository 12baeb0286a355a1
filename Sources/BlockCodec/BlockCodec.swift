public import ChunkModel

/// A block as it goes into a store and into an flist.
public struct EncodedBlock: Sendable {
    /// Verified by being made here.
    public let chunk: Chunk
    public let key: BlockKey
    public let coding: BlockCoding

    public var ref: BlockRef { BlockRef(id: chunk.id, key: key, coding: coding) }
    public var id: ChunkID { chunk.id }
    /// The chunk's stored bytes.
    public var stored: ChunkBuffer { chunk.buffer }
}

/// Plain bytes to chunk and back: compressed, then encrypted with a key made from the content (FORMATS.md §1.3, §2.4).
///
/// About 1 ms of work for 512 KiB in each direction (legacy 3 ms): not for an event loop or the cooperative pool.
public enum BlockCodec {
    /// The plain bytes of `chunk`; nothing is returned that does not hash to the key.
    ///
    /// At most one scratch buffer of the chunk's size and one of `ChunkLimits.maxPlainBytes` are taken from `pool`.
    public static func decode(_ chunk: Chunk, as ref: BlockRef, pool: ChunkBufferPool) throws(BlockError) -> ChunkBuffer {
        let failure = { (failure: BlockError.Failure) in BlockError(id: chunk.id, failure: failure) }
        guard ref.id == chunk.id, ref.key.length == ref.coding.idLength else { throw failure(.key) }
        guard chunk.byteCount <= ChunkLimits.maxStoredBytes else { throw failure(.storedLength(chunk.byteCount)) }

        let compressed = pool.take(capacity: chunk.byteCount)
        defer { withExtendedLifetime(compressed) {} }
        if ref.coding == .legacy {
            try openLegacy(chunk, key: ref.key, to: compressed)
        } else {
            try openSealed(chunk, key: ref.key, to: compressed)
        }

        let method: Compression = ref.coding == .zstd ? .zstd : .snappy
        guard let plainBytes = method.plainBytes(compressed.bytes) else { throw failure(.compression) }
        // The header is the writer's claim: bounded before anything is allocated for it.
        guard plainBytes >= 0, plainBytes <= ChunkLimits.maxPlainBytes else { throw failure(.plainLength(plainBytes)) }
        let plain = pool.take(capacity: plainBytes)
        guard method.decompress(compressed.bytes, to: plain.base, count: plainBytes) else { throw failure(.compression) }
        plain.count = plainBytes
        guard BlockKey(ofPlain: plain.bytes, length: ref.key.length) == ref.key else { throw failure(.key) }
        return plain
    }

    /// The chunk for `plain`, at most `ChunkLimits.maxPlainBytes` (writers cut files into `ChunkLimits.blockBytes`).
    ///
    /// - Parameter zstdLevel: 1 to 19, for `zstd`; the level that suits most when `nil`.
    public static func encode(
        _ plain: UnsafeRawBufferPointer, as coding: BlockCoding = .rfs, zstdLevel: Int32? = nil, pool: ChunkBufferPool
    ) throws(BlockError) -> EncodedBlock {
        guard plain.count <= ChunkLimits.maxPlainBytes else { throw BlockError(id: nil, failure: .plainLength(plain.count)) }
        let key = BlockKey(ofPlain: plain, length: coding.idLength)
        let method: Compression = coding == .zstd ? .zstd : .snappy
        let compressed = pool.take(capacity: method.maxCompressedBytes(plain.count))
        defer { withExtendedLifetime(compressed) {} }
        guard
            let count =
                method.compress(
                    plain, to: compressed.base, capacity: compressed.capacity, zstdLevel: zstdLevel ?? Compression.zstdLevel)
        else {
            throw BlockError(id: nil, failure: .library("compression"))
        }
        compressed.count = count
        let stored = try coding == .legacy ? sealLegacy(compressed, key: key, pool: pool) : seal(compressed, key: key, pool: pool)
        let id = ChunkID(ofStored: stored.bytes, length: coding.idLength)
        return EncodedBlock(chunk: Chunk(computed: id, of: stored), key: key, coding: coding)
    }

    // MARK: AES-256-GCM

    private static func openSealed(_ chunk: Chunk, key: BlockKey, to compressed: ChunkBuffer) throws(BlockError) {
        let stored = chunk.buffer
        defer { withExtendedLifetime(stored) {} }
        guard stored.count > GCM.tagBytes else { throw BlockError(id: chunk.id, failure: .storedLength(stored.count)) }
        switch GCM.open(stored.bytes, key: key.value, to: compressed.base) {
        case .plain: compressed.count = stored.count - GCM.tagBytes
        case .wrongTag: throw BlockError(id: chunk.id, failure: .tag)
        case .failed: throw BlockError(id: chunk.id, failure: .library("EVP_Decrypt"))
        }
    }

    private static func seal(_ compressed: ChunkBuffer, key: BlockKey, pool: ChunkBufferPool) throws(BlockError) -> ChunkBuffer {
        let stored = pool.take(capacity: compressed.count + GCM.tagBytes)
        guard GCM.seal(compressed.bytes, key: key.value, to: stored.base) else {
            throw BlockError(id: nil, failure: .library("EVP_Encrypt"))
        }
        stored.count = compressed.count + GCM.tagBytes
        return stored
    }

    // MARK: XXTEA

    private static func openLegacy(_ chunk: Chunk, key: BlockKey, to compressed: ChunkBuffer) throws(BlockError) {
        let stored = chunk.buffer
        defer { withExtendedLifetime(stored) {} }
        guard stored.count >= 8, stored.count.isMultiple(of: 4) else {
            throw BlockError(id: chunk.id, failure: .storedLength(stored.count))
        }
        compressed.base.copyMemory(from: stored.base, byteCount: stored.count)
        let words = UnsafeMutableRawBufferPointer(start: compressed.base, count: stored.count).bindMemory(to: UInt32.self)
        XXTEA.decrypt(words, key: key.words)
        // The last word holds the length of what stands before it, but for the padding.
        let room = stored.count - 4
        guard let count = Int(exactly: words[words.count - 1]), count <= room, count > room - 4 else {
            throw BlockError(id: chunk.id, failure: .tag)
        }
        compressed.count = count
    }

    private static func sealLegacy(_ compressed: ChunkBuffer, key: BlockKey, pool: ChunkBufferPool) -> ChunkBuffer {
        let stored = pool.take(capacity: XXTEA.sealedCount(compressed.count))
        stored.count = XXTEA.sealedCount(compressed.count)
        stored.base.initializeMemory(as: UInt8.self, repeating: 0, count: stored.count)
        stored.base.copyMemory(from: compressed.base, byteCount: compressed.count)
        let words = UnsafeMutableRawBufferPointer(start: stored.base, count: stored.count).bindMemory(to: UInt32.self)
        words[words.count - 1] = UInt32(truncatingIfNeeded: compressed.count)
        XXTEA.encrypt(words, key: key.words)
        return stored
    }
}

extension BlockKey {
    /// The first 16 bytes as four little-endian words.
    fileprivate var words: (UInt32, UInt32, UInt32, UInt32) {
        func word(_ start: Int) -> UInt32 { bytes[start..<start + 4].reversed().reduce(0) { $0 << 8 | UInt32($1) } }
        return (word(0), word(4), word(8), word(12))
    }
}
