import ChunkModel
import Flist
import Testing

@Suite struct FileReaderTests {
    private func content(_ count: Int) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(count + 8)
        while out.count < count { withUnsafeBytes(of: UInt64(out.count) &* 0x9e37_79b9_7f4a_7c15) { out.append(contentsOf: $0) } }
        return Array(out.prefix(count))
    }

    private func reader(_ whole: [UInt8], lengths: [Int], size: Int? = nil) -> FileReader {
        var blocks: [[UInt8]] = []
        var start = 0
        for length in lengths {
            blocks.append(Array(whole[start..<start + length]))
            start += length
        }
        let made = blocks
        return FileReader(size: UInt64(size ?? whole.count), blockCount: lengths.count) { ChunkBuffer(copying: made[$0]) }
    }

    static let block = ChunkLimits.blockBytes

    @Test(arguments: [
        [], [1], [block - 1], [block], [block, 1], [block, block, 5], [10, block, 7], [2 * block], [1, 1, 1], [block - 5, block, 15],
        [block + 5, block - 5],
    ])
    func everyRangeIsRight(lengths: [Int]) async throws {
        let whole = content(lengths.reduce(0, +))
        let sequential = reader(whole, lengths: lengths)
        var read: [UInt8] = []
        while read.count < whole.count {
            let slices = try await sequential.read(offset: UInt64(read.count), length: 100_000)
            try #require(!slices.isEmpty)
            for slice in slices { slice.withBytes { read += $0 } }
        }
        #expect(read == whole)
        #expect(try await sequential.read(offset: UInt64(whole.count), length: 10).isEmpty)
        #expect(try await sequential.read(offset: .max, length: 10).isEmpty)
        let all = try await sequential.read(offset: 0, length: .max).reduce(into: [UInt8]()) { sum, slice in slice.withBytes { sum += $0 } }
        #expect(all == whole)
    }

    @Test(arguments: [
        ([10], 11), ([10], 9), ([block], block + 1), ([block, 3], block + 2), ([block, 3], block + 4), ([5, 5], 5), ([0], 1),
    ])
    func blocksThatDoNotAddUpAreAnError(lengths: [Int], size: Int) async {
        let reader = reader(content(lengths.reduce(0, +)), lengths: lengths, size: size)
        await #expect(throws: FlistError.self) { try await reader.read(offset: 0, length: .max) }
    }

    @Test func evenFilesFetchOnlyWhatIsAskedFor() async throws {
        let whole = content(3 * Self.block)
        let reader = FileReader(size: UInt64(whole.count), blockCount: 3) { index in
            try #require(index == 1)
            return ChunkBuffer(copying: whole[Self.block..<2 * Self.block])
        }
        let slices = try await reader.read(offset: UInt64(Self.block + 17), length: 100)
        #expect(slices.map { $0.withBytes { Array($0) } } == [Array(whole[(Self.block + 17)..<(Self.block + 117)])])
        #expect(reader.likelyBlocks(offset: UInt64(Self.block) - 1, length: 2) == 0..<2)
    }
}
