internal import CSnappy
public import ChunkModel

/// A block as it goes into a store and into an flist.
public struct EncodedBlock: Sendable {
    public let id: ChunkID
    public let key: BlockKey
    /// The chunk's stored bytes.
    public let stored: ChunkBuffer
}

/// Plain bytes to chunk and back, as rfs does it (FORMATS.md §1.3): snappy, then AES-256-GCM with a key made from the content.
///
/// About 1 ms of work for 512 KiB in each direction: not for an event loop or the cooperative pool.
public enum BlockCodec {
    /// The plain bytes of `chunk`; nothing is returned that does not hash to `key`.
    ///
    /// At most one scratch buffer of the chunk's size and one of `ChunkLimits.maxPlainBytes` are taken from `pool`.
    public static func decode(_ chunk: Chunk, key: BlockKey, pool: ChunkBufferPool) throws(BlockError) -> ChunkBuffer {
        let stored = chunk.buffer
        let failure = { (failure: BlockError.Failure) in BlockError(id: chunk.id, failure: failure) }
        defer { withExtendedLifetime(stored) {} }
        guard stored.count > GCM.tagBytes, stored.count <= ChunkLimits.maxStoredBytes else { throw failure(.storedLength(stored.count)) }

        let compressed = pool.take(capacity: stored.count)
        defer { withExtendedLifetime(compressed) {} }
        switch GCM.open(stored.bytes, key: key.value, to: compressed.base) {
        case .plain: compressed.count = stored.count - GCM.tagBytes
        case .wrongTag: throw failure(.tag)
        case .failed: throw failure(.library("EVP_Decrypt"))
        }

        let source = compressed.base.assumingMemoryBound(to: CChar.self)
        var plainBytes = 0
        guard snappy_uncompressed_length(source, compressed.count, &plainBytes) == SNAPPY_OK else { throw failure(.compression) }
        // The header is the writer's claim: bounded before anything is allocated for it.
        guard plainBytes >= 0, plainBytes <= ChunkLimits.maxPlainBytes else { throw failure(.plainLength(plainBytes)) }
        let plain = pool.take(capacity: plainBytes)
        var written = plain.capacity
        guard snappy_uncompress(source, compressed.count, plain.base.assumingMemoryBound(to: CChar.self), &written) == SNAPPY_OK,
            written == plainBytes
        else { throw failure(.compression) }
        plain.count = plainBytes
        guard BlockKey(ofPlain: plain.bytes) == key else { throw failure(.key) }
        return plain
    }

    /// The chunk for `plain`, at most `ChunkLimits.maxPlainBytes` (writers cut files into `ChunkLimits.blockBytes`).
    public static func encode(_ plain: UnsafeRawBufferPointer, pool: ChunkBufferPool) throws(BlockError) -> EncodedBlock {
        guard plain.count <= ChunkLimits.maxPlainBytes else { throw BlockError(id: nil, failure: .plainLength(plain.count)) }
        let key = BlockKey(ofPlain: plain)
        let compressed = pool.take(capacity: snappy_max_compressed_length(plain.count))
        defer { withExtendedLifetime(compressed) {} }
        var count = compressed.capacity
        var nothing: CChar = 0
        let result = withUnsafePointer(to: &nothing) { nothing in
            snappy_compress(
                plain.baseAddress?.assumingMemoryBound(to: CChar.self) ?? nothing, plain.count,
                compressed.base.assumingMemoryBound(to: CChar.self), &count)
        }
        guard result == SNAPPY_OK else { throw BlockError(id: nil, failure: .library("snappy_compress")) }
        compressed.count = count
        let stored = pool.take(capacity: count + GCM.tagBytes)
        guard GCM.seal(compressed.bytes, key: key.value, to: stored.base) else {
            throw BlockError(id: nil, failure: .library("EVP_Encrypt"))
        }
        stored.count = count + GCM.tagBytes
        return EncodedBlock(id: ChunkID(ofStored: stored.bytes), key: key, stored: stored)
    }
}
