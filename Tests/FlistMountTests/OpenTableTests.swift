import FuseProtocol
import Glibc
import Testing

@testable import FlistMount

@Suite struct OpenTableTests {
    @Test func theFirstDecidesAndOthersWait() {
        var table = OpenTable<Int>()
        #expect(table.open(5, 1) == .decide)
        #expect(table.open(5, 2) == .wait)
        #expect(table.open(6, 3) == .decide)
        #expect(table.decided(5, backing: 9) == [2])
        #expect(table.open(5, 4) == .passthrough(9))
        #expect(table.decided(6, backing: nil) == [])
        #expect(table.open(6, 5) == .cached)
    }

    @Test func aBackingFileIsClosedOnceAfterTheLastRelease() {
        var table = OpenTable<Int>()
        _ = table.open(5, 1)
        _ = table.open(5, 2)
        _ = table.decided(5, backing: 9)
        _ = table.open(5, 3)
        #expect(table.released(5) == nil)
        #expect(table.released(5) == nil)
        #expect(table.released(5) == 9)
        #expect(table.released(5) == nil)
        #expect(table.count == 0)
    }

    /// Whatever comes in whatever order: one way of opening at a time, and each id closed exactly once.
    @Test(arguments: 1...20) func neverBothWays(seed: UInt64) {
        var state = seed &* 0x9E37_79B9_7F4A_7C15
        func random(_ bound: UInt64) -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (state >> 33) % bound
        }
        var table = OpenTable<Int>()
        var opens: [UInt64: Int] = [:]
        var ways: [UInt64: Int32?] = [:]
        var deciding: Set<UInt64> = []
        var nextID: Int32 = 1
        var held: Set<Int32> = []
        for _ in 0..<2000 {
            let node = random(4) + 1
            switch random(3) {
            case 0:
                switch table.open(node, 0) {
                case .decide:
                    #expect(opens[node, default: 0] == 0, "seed \(seed)")
                    deciding.insert(node)
                case .wait: #expect(deciding.contains(node), "seed \(seed)")
                case .cached: #expect(ways[node] == .some(nil), "seed \(seed)")
                case .passthrough(let id): #expect(ways[node] == id && held.contains(id), "seed \(seed)")
                }
                opens[node, default: 0] += 1
            case 1 where deciding.contains(node):
                deciding.remove(node)
                let backing: Int32? = random(2) == 0 ? nextID : nil
                if let backing {
                    held.insert(backing)
                    nextID += 1
                }
                ways[node] = backing
                #expect(table.decided(node, backing: backing).count == opens[node]! - 1, "seed \(seed)")
            case 2 where !deciding.contains(node) && opens[node, default: 0] > 0:
                opens[node]! -= 1
                let closed = table.released(node)
                if opens[node] == 0 {
                    #expect(closed == ways[node]!, "seed \(seed)")
                    if let closed { #expect(held.remove(closed) != nil, "seed \(seed)") }
                    ways[node] = nil
                } else {
                    #expect(closed == nil, "seed \(seed)")
                }
            default: break
            }
        }
    }

    /// What one process had open, the next one knows.
    @Test func opensAreHandedOn() throws {
        let first = try HeldConnection.open()
        #expect(first.established == nil && first.opens() == [:])
        var table = OpenTable<Int>()
        for (node, backing) in [(UInt64(7), Int32(3)), (8, nil), (9, 4), (10, nil)] as [(UInt64, Int32?)] {
            _ = table.open(node, 0)
            first.note(node, table.state(of: node))
            _ = table.decided(node, backing: backing)
            _ = table.open(node, 0)
            first.note(node, table.state(of: node))
        }
        for node: UInt64 in [9, 9, 10] {
            _ = table.released(node)
            first.note(node, table.state(of: node))
        }
        let state = HeldState(
            negotiation: FuseNegotiation(agreed: [.passthrough, .readdirplus], minor: 41), device: "0:57", overlay: nil, identity: "ab12")
        first.establish(state)

        let second = try HeldConnection(words: "\(dup(first.descriptors.device)),\(dup(first.descriptors.state))")
        #expect(second.established == state)
        let opens = second.opens()
        #expect(opens == [7: OpenState(backing: 3, count: 2), 8: OpenState(backing: nil, count: 2), 10: OpenState(backing: nil, count: 1)])
        var resumed = OpenTable<Int>(opens)
        #expect(resumed.open(7, 0) == .passthrough(3) && resumed.open(8, 0) == .cached && resumed.open(9, 0) == .decide)
        #expect(resumed.released(10) == nil && resumed.open(10, 0) == .decide)
        // The place that 9 left is taken first.
        second.note(11, OpenState(backing: 5, count: 1))
        second.note(7, nil)
        #expect(
            first.opens() == [
                8: OpenState(backing: nil, count: 2), 10: OpenState(backing: nil, count: 1), 11: OpenState(backing: 5, count: 1),
            ])
        for words in ["", "4", "4,x", "4000,4001"] { #expect(throws: MountError.self) { try HeldConnection(words: words) } }
    }
}
