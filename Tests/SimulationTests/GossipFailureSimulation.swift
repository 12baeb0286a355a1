import ChunkModel
import Gossip
import MeshKeys
import Testing

@testable import MeshSimulation

/// What fails in a site, and what the others make of it. Failing cases print their arguments; the same seed gives the same history.
@Suite struct GossipFailureSimulation {
    static let second: UInt64 = 1_000_000_000
    let flist = FlistDigest(Bytes32([UInt8](repeating: 9, count: 32))!)

    private func site(_ count: Int, seed: UInt64, loss: Int = 0) -> GossipSimulator {
        var site = GossipSimulator(count: count, seed: seed, network: .init(loss: loss))
        site.joinAll()
        _ = site.run(within: 30 * Self.second) { site in site.nodes.allSatisfy { $0.machine.liveCount == count - 1 } }
        site.forgetEvents()
        return site
    }

    private func deaths(_ site: GossipSimulator) -> Int { site.events.count { if case .dead = $0.event { true } else { false } } }

    /// Nobody is buried, and what one node says reaches all within 10 s (half of the datagrams lost: 30 s).
    @Test(arguments: [(64, 100, 1), (32, 300, 2), (16, 500, 3)] as [(Int, Int, UInt64)])
    func lostDatagramsKillNobodyAndDelayNews(count: Int, loss: Int, seed: UInt64) throws {
        var site = site(count, seed: seed, loss: loss)
        site.run(for: 60 * Self.second)
        #expect(deaths(site) == 0)
        site.edit(1) {
            $0.publishFlist(flist, chunkCount: 100)
            $0.setHave(flist, [5])
        }
        let one = GossipSimulator.id(1)
        let time = try #require(
            site.run(within: (loss == 500 ? 30 : 10) * Self.second) { site in
                site.nodes.indices.allSatisfy { $0 == 1 || site.nodes[$0].machine.holders(of: flist, 5) == [one] }
            })
        print("news N=\(count) loss \(loss)‰ seed \(seed): \(time / 1_000_000) ms")
    }

    /// The halves bury each other, go on publishing, and know all of it 20 s after they meet again.
    @Test(arguments: [(16, 21), (48, 22)] as [(Int, UInt64)]) func theHalvesLearnWhatTheOtherPublishedMeanwhile(count: Int, seed: UInt64)
        throws
    {
        var site = site(count, seed: seed)
        for i in site.nodes.indices { site.edit(i) { $0.publishFlist(flist, chunkCount: 64) } }
        site.run(for: 3 * Self.second)
        for i in 0..<(count / 2) { site.nodes[i].side = 1 }
        site.run(for: 90 * Self.second)
        #expect(site.agree(Array(0..<(count / 2))))
        for i in site.nodes.indices { site.edit(i) { $0.setHave(flist, [i]) } }
        site.run(for: 5 * Self.second)
        for i in site.nodes.indices { site.nodes[i].side = 0 }
        let time = try #require(
            site.run(within: 20 * Self.second, step: Self.second / 2) { site in
                site.agree()
                    && site.nodes.indices.allSatisfy { i in
                        site.nodes.indices.allSatisfy { $0 == i || site.nodes[$0].machine.holders(of: flist, i) == [GossipSimulator.id(i)] }
                    }
            })
        print("heal with news N=\(count) seed \(seed): \(time / 1_000_000) ms")
    }

    /// Node 2 does not hear node 3, which hears it: others tell that both live.
    @Test(arguments: [UInt64(31), 32]) func whoDoesNotHearOneNodeBuriesNobody(seed: UInt64) {
        var site = site(8, seed: seed)
        site.nodes[2].deafTo = [3]
        site.run(for: 120 * Self.second)
        #expect(deaths(site) == 0)
        #expect(site.state(of: 3, seenBy: 2) == .alive)
    }

    /// Node 2 hears nobody at all and suspects everybody: the others lose node 2 only.
    @Test(arguments: [UInt64(41), 42]) func whoHearsNobodyTakesNobodyAlong(seed: UInt64) {
        var site = site(8, seed: seed)
        site.nodes[2].deafTo = Set(site.nodes.indices)
        site.run(for: 120 * Self.second)
        let buried = site.events.filter { if case .dead = $0.event, $0.node != 2 { true } else { false } }
        #expect(
            buried.allSatisfy { event in if case .dead(let member) = event.event { member.id == GossipSimulator.id(2) } else { true } })
        #expect(site.running.filter { $0 != 2 }.allSatisfy { site.state(of: 2, seenBy: $0) == .dead })
        site.nodes[2].deafTo = []
        let back = site.run(within: 30 * Self.second) { $0.agree() }
        #expect(back != nil)
    }

    /// The incarnation is taken from the wall clock: a node that starts again a day earlier, or later, is back within 5 s all the same.
    @Test(arguments: [Int64(-86_400), 86_400]) func aClockThatJumpedByADayKeepsNobodyOut(jump: Int64) throws {
        var site = site(8, seed: 51)
        site.crash(2)
        site.run(for: 20 * Self.second)
        site.restart(2, joining: 0, clockJump: jump)
        site.edit(2) {
            $0.publishFlist(flist, chunkCount: 10)
            $0.setHave(flist, [4])
        }
        let two = GossipSimulator.id(2)
        let time = try #require(
            site.run(within: 5 * Self.second) { site in
                site.agree() && site.running.allSatisfy { $0 == 2 || site.nodes[$0].machine.holders(of: flist, 4) == [two] }
            })
        print("clock jumped by \(jump) s: \(time / 1_000_000) ms")
        // And when it goes right again.
        site.crash(2)
        site.run(for: 2 * Self.second)
        site.restart(2, joining: 0)
        let again = site.run(within: 5 * Self.second) { $0.agree() }
        #expect(again != nil)
    }

    /// All nodes are killed and start anew at the same moment, as after a power cut: they know each other within 5 s.
    @Test(arguments: [(16, 61), (64, 62)] as [(Int, UInt64)]) func aRestartStormIsOverSoon(count: Int, seed: UInt64) throws {
        var site = site(count, seed: seed)
        for i in site.nodes.indices { site.crash(i) }
        for i in site.nodes.indices { site.restart(i, joining: i == 0 ? 1 : 0) }
        let time = try #require(site.run(within: 5 * Self.second) { $0.agree() })
        print("restart storm N=\(count): \(time / 1_000_000) ms")
    }

    @Test func twoNodesWithOneNameAreTwoNodes() {
        var site = site(6, seed: 71)
        site.crash(4)
        site.restart(4, joining: 0, name: "node3")
        // Its new name, too, has come to all by then.
        site.run(for: 10 * Self.second)
        site.forgetEvents()
        site.run(for: 60 * Self.second)
        #expect(site.events.isEmpty)
        for i in site.nodes.indices where i != 3 && i != 4 {
            #expect(site.nodes[i].machine.members.values.count { $0.name == "node3" && $0.state == .alive } == 2)
        }
    }

    /// A cloned disk: two machines with one identity. Both count that; the others are told of one or the other at most every few seconds,
    /// and what it costs is bounded.
    @Test func twoNodesWithOneIdentityAreCountedAndCostLittle() {
        var site = site(8, seed: 81)
        let clone = site.clone(3, joining: 0)
        site.run(for: 10 * Self.second)
        site.forgetEvents()
        let before = site.nodes.map(\.bytesSent)
        site.run(for: 60 * Self.second)
        #expect(site.nodes[3].machine.counters.identityConflicts > 0)
        #expect(site.nodes[clone].machine.counters.identityConflicts > 0)
        let changes = site.events.count { $0.node == 0 }
        #expect(changes <= 40, "changes that node 0 saw in a minute")
        let rates = zip(site.nodes, before).map { ($0.bytesSent - $1) / 60 }
        print("one identity twice: bytes/s \(rates), changes seen \(changes)")
        #expect((rates.max() ?? 0) <= 3_000)
        #expect(
            [0, 1, 2, 4, 5, 6, 7].allSatisfy { i in [0, 1, 2, 4, 5, 6, 7].allSatisfy { $0 == i || site.state(of: $0, seenBy: i) == .alive }
            })
    }

    @Test(arguments: [true, false]) func aNodeWithANewAddressIsFoundThere(isKnownDead: Bool) throws {
        var site = site(8, seed: 91)
        site.crash(5)
        if isKnownDead { site.run(for: 20 * Self.second) }
        let address = GossipSimulator.address(200)
        site.restart(5, joining: 0, at: address)
        let five = GossipSimulator.id(5)
        let time = try #require(
            site.run(within: 5 * Self.second) { site in
                site.agree() && site.running.allSatisfy { $0 == 5 || site.nodes[$0].machine.members[five]?.address == address }
            })
        print("new address: \(time / 1_000_000) ms")
        site.forgetEvents()
        site.run(for: 30 * Self.second)
        #expect(site.events.isEmpty)
    }
}
