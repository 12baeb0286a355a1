import BlockCodec
import ChunkModel
import Testing

@Suite struct BlockCodecTests {
    let pool = ChunkBufferPool(keep: 4)

    /// 4 KiB that repeat; incompressible ones are a running number, mixed.
    private func content(_ count: Int, seed: UInt64, compressible: Bool) -> [UInt8] {
        var state = seed
        var out: [UInt8] = []
        out.reserveCapacity(count + 8)
        while out.count < count {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let word = compressible && (out.count >> 12).isMultiple(of: 2) ? 7 : state ^ state >> 29
            withUnsafeBytes(of: word) { out.append(contentsOf: $0) }
        }
        return Array(out.prefix(count))
    }

    @Test(arguments: [0, 1, 15, 524_287, 524_288, 524_289, 2_097_152], [true, false])
    func whatWasEncodedIsDecoded(size: Int, compressible: Bool) throws {
        let plain = content(size, seed: 7, compressible: compressible)
        for coding in BlockCoding.allCases {
            let block = try plain.withUnsafeBytes { try BlockCodec.encode($0, as: coding, pool: pool) }
            #expect(block.stored.count <= ChunkLimits.maxStoredBytes)
            let chunk = try #require(Chunk(verifying: block.stored, as: block.id))
            let decoded = try BlockCodec.decode(chunk, as: block.ref, pool: pool)
            #expect(decoded.withBytes { Array($0) } == plain, "\(coding)")
        }
    }

    /// What one codec made is refused by the others, not misread.
    @Test func codecsAreNotMistakenForEachOther() throws {
        let plain = content(70_000, seed: 11, compressible: true)
        for made in BlockCoding.allCases {
            let block = try plain.withUnsafeBytes { try BlockCodec.encode($0, as: made, pool: pool) }
            for read in BlockCoding.allCases where read != made {
                #expect(throws: BlockError.self, "\(made) read as \(read)") {
                    try BlockCodec.decode(block.chunk, as: BlockRef(id: block.id, key: block.key, coding: read), pool: pool)
                }
            }
        }
    }

    @Test func legacyBlocksThatAreDamagedAreNamed() throws {
        let plain = content(1000, seed: 5, compressible: false)
        let block = try plain.withUnsafeBytes { try BlockCodec.encode($0, as: .legacy, pool: pool) }
        let stored = block.stored.withBytes { Array($0) }
        #expect(failure(stored: stored, key: block.key) == nil)
        #expect(failure(stored: Array(stored.prefix(4)), key: block.key) == .storedLength(4))
        #expect(failure(stored: Array(stored.dropLast()), key: block.key) == .storedLength(stored.count - 1))
        var flipped = stored
        flipped[20] ^= 1
        #expect(failure(stored: flipped, key: block.key) != nil)
        #expect(failure(stored: stored, key: BlockKey([UInt8](repeating: 3, count: 16))!) == .tag)
    }

    @Test func moreThanTheLimitIsNotEncoded() {
        let plain = [UInt8](repeating: 0, count: ChunkLimits.maxPlainBytes + 1)
        #expect(throws: BlockError(id: nil, failure: .plainLength(plain.count))) {
            try plain.withUnsafeBytes { try BlockCodec.encode($0, pool: pool) }
        }
    }

    /// The same content gives the same chunk: that is what de-duplication rests on.
    @Test func equalContentGivesEqualChunks() throws {
        let plain = content(100_000, seed: 3, compressible: true)
        let a = try plain.withUnsafeBytes { try BlockCodec.encode($0, pool: pool) }
        let b = try plain.withUnsafeBytes { try BlockCodec.encode($0, pool: pool) }
        #expect(a.id == b.id)
        #expect(a.key == b.key)
    }

    private func failure(stored: [UInt8], key: BlockKey) -> BlockError.Failure? {
        let buffer = ChunkBuffer(copying: stored)
        let id = buffer.withBytes { ChunkID(ofStored: $0, length: key.length) }
        guard let chunk = Chunk(verifying: buffer, as: id) else { return nil }
        do throws(BlockError) {
            _ = try BlockCodec.decode(
                chunk, as: BlockRef(id: id, key: key, coding: key.length == .legacy ? .legacy : .rfs), pool: pool)
            return nil
        } catch {
            return error.failure
        }
    }

    @Test func theFailedCheckIsNamed() throws {
        let plain = content(5000, seed: 1, compressible: true)
        let block = try plain.withUnsafeBytes { try BlockCodec.encode($0, pool: pool) }
        let stored = block.stored.withBytes { Array($0) }
        let otherKey = plain.dropFirst().withContiguousStorageIfAvailable { BlockKey(ofPlain: UnsafeRawBufferPointer($0)) }!
        var flipped = stored
        flipped[100] ^= 1
        #expect(failure(stored: flipped, key: block.key) == .tag)
        #expect(failure(stored: stored, key: otherKey) == .tag)
        #expect(failure(stored: [], key: block.key) == .storedLength(0))
        #expect(failure(stored: Array(stored.prefix(10)), key: block.key) == .storedLength(10))
        #expect(failure(stored: Array(stored.prefix(16)), key: block.key) == .storedLength(16))
        #expect(failure(stored: Array(stored.dropLast()), key: block.key) == .tag)
        #expect(failure(stored: stored, key: block.key) == nil)
    }

    @Test func keysAreSixteenOrThirtyTwoBytesAndStayOutOfText() {
        #expect(BlockKey([UInt8](repeating: 1, count: 31)) == nil)
        #expect(BlockKey([]) == nil)
        let key = BlockKey([UInt8](repeating: 0xab, count: 32))
        #expect(key?.bytes == [UInt8](repeating: 0xab, count: 32))
        #expect(key.map { !"\($0)".contains("ab") || !"\($0)".contains("abab") } == true)
    }
}
