import ChunkModel
import Testing

@testable import ChunkStore

@Suite struct ChunkTableTests {
    /// Random operations against a plain model: the same chunks held and pinned, the same order of use, the same sums.
    @Test(arguments: 0..<8)
    func agreesWithAModel(seed: UInt64) throws {
        var generator = Seeded(state: seed)
        let ids = (0..<60).map { n in withUnsafeBytes(of: n) { ChunkID(ofStored: $0) } }
        var table = ChunkTable()
        var held: [ChunkID: UInt32] = [:]
        var pins: [ChunkID: [ChunkTable.Slot]] = [:]
        var order: [ChunkID] = []
        for step in 0..<3000 {
            let id = ids[Int.random(in: 0..<60, using: &generator)]
            switch Int.random(in: 0..<6, using: &generator) {
            case 0, 1:
                let size = UInt32.random(in: 0..<100, using: &generator)
                table.hold(id, size: size, lastUse: 0, verified: true)
                held[id] = size
                order.removeAll { $0 == id }
                if pins[id] == nil { order.append(id) }
            case 2:
                #expect((table.drop(id) != nil) == (held.removeValue(forKey: id) != nil))
                order.removeAll { $0 == id }
            case 3:
                pins[id, default: []].append(table.pin(id))
                order.removeAll { $0 == id }
            case 4:
                guard var slots = pins[id] else { continue }
                table.unpin(slots.removeLast())
                pins[id] = slots.isEmpty ? nil : slots
                if slots.isEmpty, held[id] != nil { order.append(id) }
            default:
                guard let slot = table.heldSlot(of: id) else { continue }
                table.touch(slot, now: UInt32(step))
                if order.contains(id) {
                    order.removeAll { $0 == id }
                    order.append(id)
                }
            }
            try #require(table.oldest(100, in: .ordinary) == order, "seed \(seed), step \(step)")
        }
        for id in ids {
            #expect((table.heldSlot(of: id) != nil) == (held[id] != nil))
            #expect((table.slot(of: id) != nil) == (held[id] != nil || pins[id] != nil))
        }
        #expect(table.heldCount == held.count && table.heldBytes == held.values.reduce(0) { $0 + Int64($1) })
        #expect(table.pinnedBytes == held.filter { pins[$0.key] != nil }.values.reduce(0) { $0 + Int64($1) })
        #expect(table.slotLimit <= 60)
    }

    @Test func sparedChunksReturnWithTheirNextUse() throws {
        let ids = (0..<3).map { n in withUnsafeBytes(of: n) { ChunkID(ofStored: $0) } }
        var table = ChunkTable()
        for id in ids { table.hold(id, size: 1, lastUse: 0, verified: true) }
        table.move(try #require(table.heldSlot(of: ids[1])), to: .spared)
        #expect(table.oldest(9, in: .ordinary) == [ids[0], ids[2]] && table.oldest(9, in: .spared) == [ids[1]])
        table.touch(try #require(table.heldSlot(of: ids[1])), now: 1)
        #expect(table.oldest(9, in: .ordinary) == [ids[0], ids[2], ids[1]] && table.oldest(9, in: .spared).isEmpty)
    }
}
