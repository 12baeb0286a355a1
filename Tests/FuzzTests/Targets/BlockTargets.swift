@testable import BlockCodec
import ChunkModel

extension FuzzTarget {
    private static let pool = ChunkBufferPool(keep: 4)

    /// Compressed bytes behind a good seal, as a writer of an flist can make them; the first byte chooses the coding.
    static let snappyBlock = FuzzTarget(
        name: "block-compressed", maxLength: 8 << 10, maxMegabytes: 256,
        seeds: {
            [
                [UInt8](repeating: 65, count: 3_000), Array("abc".utf8), Array((0..<600).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 3) }),
                [],
            ]
            .flatMap { plain in
                BlockCoding.allCases.map { coding in
                    let method: Compression = coding == .zstd ? .zstd : .snappy
                    let out = ChunkBuffer(capacity: method.maxCompressedBytes(plain.count))
                    out.count = plain.withUnsafeBytes { method.compress($0, to: out.base, capacity: out.capacity) } ?? 0
                    return [coding.rawValue] + Array(out.bytes)
                }
            }
        },
        run: { bytes in
            guard let first = bytes.first, bytes.count > 1 else { return }
            let coding = BlockCoding(rawValue: first % 3) ?? .rfs
            // Any key seals; the one of the plain bytes is not known before they are.
            let key = BlockKey([UInt8](repeating: 7, count: coding == .legacy ? 16 : 32))!
            guard let chunk = sealed(Array(bytes.dropFirst()), key: key, coding: coding) else { return }
            let plain = decode(chunk, key: key, coding: coding)
            fuzzCheck(plain == nil, "plain bytes that do not hash to their key")
        })

    /// Stored bytes as a store hands them out, under ids that fit them; the first byte chooses the coding.
    static let storedBlock = FuzzTarget(
        name: "block-stored", maxLength: 8 << 10, maxMegabytes: 256,
        seeds: {
            BlockCoding.allCases.compactMap { coding in
                Array("some plain bytes, some plain bytes".utf8).withUnsafeBytes { plain in
                    (try? BlockCodec.encode(plain, as: coding, pool: pool)).map {
                        [coding.rawValue] + $0.key.bytes + Array($0.stored.bytes)
                    }
                }
            }
        },
        run: { bytes in
            guard let first = bytes.first else { return }
            let coding = BlockCoding(rawValue: first % 3) ?? .rfs
            let keyBytes = coding == .legacy ? 16 : 32
            guard let key = BlockKey(bytes.dropFirst().prefix(keyBytes)) else { return }
            let stored = ChunkBuffer(copying: bytes.dropFirst(1 + keyBytes))
            guard let chunk = Chunk(verifying: stored, as: ChunkID(ofStored: stored.bytes, length: coding.idLength)) else {
                fatalError("a chunk does not verify as itself")
            }
            if let plain = decode(chunk, key: key, coding: coding) {
                fuzzCheck(BlockKey(ofPlain: plain.bytes, length: coding.idLength) == key, "plain bytes that do not hash to their key")
                fuzzCheck(plain.count <= ChunkLimits.maxPlainBytes, "a block over the limit")
            }
        })

    private static func decode(_ chunk: Chunk, key: BlockKey, coding: BlockCoding) -> ChunkBuffer? {
        do throws(BlockError) {
            return try BlockCodec.decode(chunk, as: BlockRef(id: chunk.id, key: key, coding: coding), pool: pool)
        } catch {
            fuzzCheck(!error.description.isEmpty, "an error without a line")
            return nil
        }
    }

    private static func sealed(_ compressed: [UInt8], key: BlockKey, coding: BlockCoding) -> Chunk? {
        let stored: ChunkBuffer
        if coding == .legacy {
            var padded = compressed + [UInt8](repeating: 0, count: (4 - compressed.count % 4) % 4)
            padded += (0..<4).map { UInt8(truncatingIfNeeded: compressed.count >> (8 * $0)) }
            stored = ChunkBuffer(copying: padded)
            let words = UnsafeMutableRawBufferPointer(start: stored.base, count: stored.count).bindMemory(to: UInt32.self)
            guard words.count >= 2 else { return nil }
            let word: UInt32 = 0x0707_0707
            XXTEA.encrypt(words, key: (word, word, word, word))
        } else {
            stored = ChunkBuffer(capacity: compressed.count + GCM.tagBytes)
            guard compressed.withUnsafeBytes({ GCM.seal($0, key: key.value, to: stored.base) }) else { return nil }
            stored.count = compressed.count + GCM.tagBytes
        }
        return Chunk(verifying: stored, as: ChunkID(ofStored: stored.bytes, length: coding.idLength))
    }
}
