import Testing

@testable import Gossip

@Suite struct BitmapTests {
    @Test(arguments: [0, 1, 63, 64, 65, 1_000]) func completeAndEmpty(count: Int) {
        var bitmap = Bitmap(count: count)
        #expect(bitmap.isEmpty)
        #expect(bitmap.isComplete == (count == 0))
        for i in 0..<count { bitmap.set(i) }
        #expect(bitmap.isComplete)
        #expect(bitmap.runs == (count == 0 ? [] : [0..<count]))
        #expect(!bitmap.contains(count) && !bitmap.contains(-1))
        bitmap.set(0..<count, to: false)
        #expect(bitmap == Bitmap(count: count))
    }

    @Test(arguments: 1...20) func agreesWithASetAndSurvivesTheWire(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let count = Int.random(in: 1...300, using: &random)
        var bitmap = Bitmap(count: count)
        var truth: Set<Int> = []
        for _ in 0..<60 {
            let start = Int.random(in: 0..<count, using: &random)
            let range = start..<Int.random(in: start...count, using: &random)
            if Bool.random(using: &random) {
                bitmap.set(range)
                truth.formUnion(range)
            } else {
                bitmap.set(range, to: false)
                truth.subtract(range)
            }
            let one = Int.random(in: 0..<count, using: &random)
            bitmap.set(one)
            truth.insert(one)
            #expect(bitmap.population == truth.count)
            #expect((0..<count).filter { bitmap.contains($0) } == truth.sorted())
            #expect(bitmap.runs.flatMap { Array($0) } == truth.sorted())
            var writer = WireWriter()
            bitmap.encode(to: &writer)
            var reader = WireReader(writer.bytes)
            let decoded = try Bitmap(from: &reader, count: count)
            #expect(decoded == bitmap)
            #expect(reader.isAtEnd)
        }
    }
}
