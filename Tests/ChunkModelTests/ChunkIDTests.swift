import ChunkModel
import Testing

@Suite struct ChunkIDTests {
    @Test func emptyInputHasTheKnownDigest() {
        #expect(
            Blake2b.hash256([]).hex == "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8")
    }

    @Test func legacyAndFullIdsKeepTheirLength() throws {
        let bytes = Array("chunk".utf8)
        let full = bytes.withUnsafeBytes { ChunkID(ofStored: $0) }
        let legacy = bytes.withUnsafeBytes { ChunkID(ofStored: $0, length: .legacy) }
        #expect(full.bytes.count == 32 && legacy.bytes.count == 16)
        #expect(ChunkID(hex: full.hex) == full)
        #expect(ChunkID(hex: legacy.hex) == legacy)
        #expect(full != legacy)
    }

    @Test(arguments: [0, 1, 15, 17, 31, 33]) func otherLengthsAreRefused(count: Int) {
        #expect(ChunkID([UInt8](repeating: 7, count: count)) == nil)
    }

    @Test func aChunkExistsOnlyWithItsOwnBytes() {
        let bytes = Array("stored".utf8)
        let id = bytes.withUnsafeBytes { ChunkID(ofStored: $0) }
        #expect(Chunk(verifying: ChunkBuffer(copying: bytes), as: id) != nil)
        #expect(Chunk(verifying: ChunkBuffer(copying: Array("forged".utf8)), as: id) == nil)
    }

    @Test func streamedAndWholeDigestsAgree() {
        let bytes = [UInt8]((0..<1000).map { UInt8(truncatingIfNeeded: $0) })
        let stream = Blake2bStream()
        for start in stride(from: 0, to: bytes.count, by: 64) {
            bytes[start..<min(start + 64, bytes.count)].withUnsafeBytes { stream.update($0) }
        }
        #expect(stream.finish() == Blake2b.hash256(bytes))
    }

    @Test func orderIsThatOfTheBytes() {
        let low = ChunkID([UInt8](repeating: 0, count: 31) + [1])!
        let high = ChunkID([1] + [UInt8](repeating: 0, count: 31))!
        #expect(low < high && low.hex < high.hex)
    }
}
