import Testing

@testable import ReadAPI

@Suite struct ReadAheadTests {
    @Test func theWindowGrowsWithTheReader() {
        var ahead = ReadAhead()
        #expect(ahead.read(0..<1, of: 100).isEmpty)
        var asked: [Int] = []
        for block in 1..<40 { asked += ahead.read(block..<block + 1, of: 100) }
        #expect(asked == Array(2..<asked.count + 2), "every block ahead once, in order")
        #expect(ahead.blocks == ReadAhead.maxBlocks)
        #expect(asked.last == 39 + ReadAhead.maxBlocks)
    }

    @Test func theFirstStepIsOneBlock() {
        var ahead = ReadAhead()
        _ = ahead.read(5..<6, of: 100)
        #expect(ahead.read(5..<6, of: 100).isEmpty, "the same place again is no step")
        #expect(ahead.read(6..<7, of: 100) == 7..<8)
        #expect(ahead.read(7..<8, of: 100) == 8..<10)
        #expect(ahead.read(8..<9, of: 100) == 10..<13)
    }

    @Test func goingElsewhereEndsIt() {
        var ahead = ReadAhead()
        for block in 0..<6 { _ = ahead.read(block..<block + 1, of: 100) }
        #expect(ahead.blocks > 1)
        #expect(ahead.read(50..<51, of: 100).isEmpty && ahead.blocks == 0)
        #expect(ahead.read(20..<21, of: 100).isEmpty && ahead.blocks == 0)
        #expect(ahead.read(21..<22, of: 100) == 22..<23)
    }

    @Test func theEndOfTheFileIsTheEnd() {
        var ahead = ReadAhead()
        for block in 0..<3 { #expect(ahead.read(block..<block + 1, of: 3).allSatisfy { $0 < 3 }) }
        #expect(ahead.read(2..<3, of: 3).isEmpty)
    }

    /// Who was told that more is there reads that without asking, and goes on behind it.
    @Test func whatTheReaderWasToldCounts() {
        var ahead = ReadAhead()
        _ = ahead.read(0..<1, of: 100)
        ahead.told(upTo: 9)
        #expect(ahead.read(9..<10, of: 100) == 10..<11)
        // Out of order within what is known.
        #expect(ahead.read(4..<5, of: 100).isEmpty && ahead.blocks == 1)
        #expect(ahead.read(10..<11, of: 100) == 11..<13)
    }
}
