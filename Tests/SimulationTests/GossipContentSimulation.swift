import ChunkModel
import Gossip
import MeshKeys
import Testing

@testable import MeshSimulation

/// Facts, bitmaps and claims. Failing cases print their arguments.
@Suite struct GossipContentSimulation {
    static let second: UInt64 = 1_000_000_000
    let flist = FlistDigest(Bytes32([UInt8](repeating: 7, count: 32))!)

    @Test(arguments: [(8, 0, 1, true), (8, 100, 2, true), (16, 300, 3, false), (64, 50, 4, true)] as [(Int, Int, UInt64, Bool)])
    func factsReachEverybody(count: Int, loss: Int, seed: UInt64, hasStream: Bool) throws {
        var site = GossipSimulator(count: count, seed: seed, network: .init(loss: loss, hasStream: hasStream))
        site.joinAll()
        site.run(for: 5 * Self.second)
        let key = FactKey(kind: 3, id: [1, 2])!
        for i in site.nodes.indices { site.edit(i) { $0.setFact(key, [UInt8(i)]) } }
        let time = try #require(
            site.run(within: 20 * Self.second) { site in site.nodes.allSatisfy { $0.machine.nodes(withFact: key).count == count } })
        print("facts N=\(count) loss \(loss)‰ seed \(seed): \(time / 1_000_000) ms")
        site.edit(1) { $0.removeFact(key) }
        site.edit(2) { $0.setFact(key, [99]) }
        let again = site.run(within: 20 * Self.second) { site in
            site.nodes.allSatisfy { node in
                node.machine.nodes(withFact: key).count == count - 1 && node.machine.facts(of: GossipSimulator.id(2))[key] == [99]
            }
        }
        #expect(again != nil)
    }

    /// Every node gains and loses chunks in small steps for twenty seconds; afterwards all know of each exactly what it holds.
    @Test(arguments: [(8, 0, 11), (8, 200, 12), (16, 50, 13), (8, 500, 14)] as [(Int, Int, UInt64)])
    func bitmapsAreExact(count: Int, loss: Int, seed: UInt64) throws {
        var site = GossipSimulator(count: count, seed: seed, network: .init(loss: loss, duplication: 50, delay: 200_000...30_000_000))
        var random = SplitMix64(seed: seed)
        site.joinAll()
        for i in site.nodes.indices { site.edit(i) { $0.publishFlist(flist, chunkCount: 1_000) } }
        for _ in 0..<200 {
            for i in site.nodes.indices {
                let have = (0..<3).map { _ in Int.random(in: 0..<1_000, using: &random) }
                let clear = [Int.random(in: 0..<1_000, using: &random)]
                site.edit(i) {
                    $0.setHave(flist, have)
                    $0.clearHave(flist, clear)
                }
            }
            site.run(for: Self.second / 10)
        }
        let time = try #require(site.run(within: 40 * Self.second) { site in same(site) })
        print("bitmaps N=\(count) loss \(loss)‰ seed \(seed): exact \(time / 1_000_000) ms after the last change")
    }

    private func same(_ site: GossipSimulator) -> Bool {
        site.running.allSatisfy { i in
            let truth = site.nodes[i].machine.bitmap(of: GossipSimulator.id(i), flist)
            return site.running.allSatisfy { site.nodes[$0].machine.bitmap(of: GossipSimulator.id(i), flist) == truth }
        }
    }

    /// 200,000 scattered chunks don't fit datagrams: they go by stream, or not at all, and small things still get through without one.
    @Test(arguments: [UInt64(21), 22]) func aLatecomerLearnsLargeBitmapsByStream(seed: UInt64) throws {
        var site = GossipSimulator(count: 4, seed: seed)
        site.joinAll()
        site.run(for: Self.second)
        site.edit(1) {
            $0.publishFlist(flist, chunkCount: 400_000)
            $0.setHave(flist, stride(from: 0, to: 400_000, by: 2))
        }
        let time = try #require(site.run(within: 5 * Self.second) { same(withAllOf: 1, $0) })
        print("large bitmap seed \(seed): \(time / 1_000_000) ms")
        site.restart(3, joining: 0)
        let again = site.run(within: 5 * Self.second) { same(withAllOf: 1, $0) }
        #expect(again != nil)
    }

    private func same(withAllOf i: Int, _ site: GossipSimulator) -> Bool {
        let truth = site.nodes[i].machine.bitmap(of: GossipSimulator.id(i), flist)
        return site.running.allSatisfy { site.nodes[$0].machine.bitmap(of: GossipSimulator.id(i), flist) == truth }
    }

    @Test func aMediumBitmapGetsThroughWithoutStreamUnderLoss() throws {
        var site = GossipSimulator(count: 6, seed: 23, network: .init(loss: 200, hasStream: false))
        site.joinAll()
        site.run(for: 2 * Self.second)
        site.edit(1) {
            $0.publishFlist(flist, chunkCount: 300_000)
            $0.setHave(flist, stride(from: 0, to: 300_000, by: 2))
        }
        let time = try #require(site.run(within: 20 * Self.second) { same(withAllOf: 1, $0) })
        print("37 KB bitmap by datagrams, 20 % loss: \(time / 1_000_000) ms")
    }

    @Test func whatACrashedNodeHeldIsGoneAndComesBackWithIt() throws {
        var site = GossipSimulator(count: 8, seed: 31)
        site.joinAll()
        site.edit(2) {
            $0.publishFlist(flist, chunkCount: 10)
            $0.setHaveAll(flist)
        }
        let two = GossipSimulator.id(2)
        let known = site.run(within: 3 * Self.second) { site in [0, 7].allSatisfy { site.nodes[$0].machine.holders(of: flist, 9) == [two] }
        }
        #expect(known != nil)
        site.crash(2)
        let gone = site.run(within: 12 * Self.second) { site in [0, 7].allSatisfy { site.nodes[$0].machine.holders(of: flist, 9).isEmpty } }
        #expect(gone != nil)
        site.restart(2, joining: 0)
        site.edit(2) {
            $0.publishFlist(flist, chunkCount: 10)
            $0.setHave(flist, [4])
        }
        let back = site.run(within: 5 * Self.second) { site in
            [0, 7].allSatisfy {
                site.nodes[$0].machine.holders(of: flist, 4) == [GossipSimulator.id(2)]
                    && site.nodes[$0].machine.holders(of: flist, 9).isEmpty
            }
        }
        #expect(back != nil)
    }

    @Test func claimsSpreadAndEnd() throws {
        var site = GossipSimulator(count: 8, seed: 41)
        site.joinAll()
        site.edit(1) { $0.publishFlist(flist, chunkCount: 10) }
        site.run(for: 2 * Self.second)
        site.with(1) {
            $0.claim(flist, 3, now: $1)
            $0.claim(flist, 4, now: $1)
            return []
        }
        let one = GossipSimulator.id(1)
        let time = try #require(
            site.run(within: 2 * Self.second) { site in site.nodes.allSatisfy { $0.machine.claimant(of: flist, 3, now: site.now) == one } })
        print("claim N=8: \(time / 1_000_000) ms")
        site.edit(1) { $0.setHave(flist, [3]) }
        let ended = site.run(within: 2 * Self.second) { site in
            site.nodes.allSatisfy {
                $0.machine.claimant(of: flist, 3, now: site.now) == nil && $0.machine.claimant(of: flist, 4, now: site.now) == one
            }
        }
        #expect(ended != nil)
        site.run(for: 31 * Self.second)
        let lapsed = site.run(within: 1) { site in site.nodes.allSatisfy { $0.machine.claimant(of: flist, 4, now: site.now) == nil } }
        #expect(lapsed != nil)
    }
}
