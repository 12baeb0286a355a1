import Gossip
import MeshKeys
import Testing

@testable import MeshSimulation

/// Failing cases print their arguments: count, loss per mille, seed. To repeat one exactly, run with SWIFT_DETERMINISTIC_HASHING=1, since
/// the order of dictionaries is otherwise the process's own.
@Suite struct GossipMembershipSimulation {
    static let second: UInt64 = 1_000_000_000

    @Test(arguments: [2, 8, 16], [UInt64(1), 2, 3]) func nodesThatStartTogetherKnowEachOtherWithinASecond(count: Int, seed: UInt64) throws {
        var site = GossipSimulator(count: count, seed: seed)
        site.joinAll()
        let time = try #require(site.run(within: Self.second) { $0.agree() })
        print("join N=\(count) seed \(seed): \(time / 1_000_000) ms")
    }

    @Test(arguments: [(16, 100, 1), (16, 300, 2), (16, 500, 3), (64, 100, 4), (256, 0, 5)] as [(Int, Int, UInt64)])
    func aLossyNetworkDelaysJoiningOnly(count: Int, loss: Int, seed: UInt64) throws {
        var site = GossipSimulator(count: count, seed: seed, network: .init(loss: loss, duplication: 50, delay: 200_000...20_000_000))
        site.joinAll()
        // Under heavy loss somebody is suspected at any time: known is enough.
        let time = try #require(
            site.run(within: 30 * Self.second, step: Self.second / 4) { site in
                site.nodes.allSatisfy { $0.machine.members.values.filter { $0.state.isLive }.count == count - 1 }
            })
        print("join N=\(count) loss \(loss)‰ seed \(seed): \(time / 1_000_000) ms")
    }

    @Test(arguments: [(8, 0, 11), (8, 100, 12)] as [(Int, Int, UInt64)])
    func nobodyIsTakenForDeadInTenMinutes(count: Int, loss: Int, seed: UInt64) {
        var site = GossipSimulator(count: count, seed: seed, network: .init(loss: loss, duplication: 10))
        site.joinAll()
        site.run(for: 600 * Self.second)
        let deaths = site.events.filter { if case .dead = $0.event { true } else { false } }
        #expect(deaths.isEmpty)
    }

    @Test(arguments: [UInt64(21), 22, 23, 24, 25, 26], [0, 50]) func aKilledNodeIsKnownDeadByAll(seed: UInt64, loss: Int) throws {
        var site = GossipSimulator(count: 8, seed: seed, network: .init(loss: loss))
        site.joinAll()
        site.run(for: 10 * Self.second)
        site.crash(3)
        let time = try #require(
            site.run(within: 15 * Self.second) { site in site.running.allSatisfy { site.state(of: 3, seenBy: $0) == .dead } })
        print("death N=8 loss \(loss)‰ seed \(seed): \(time / 1_000_000) ms")
        #expect(time <= (loss == 0 ? 8 : 12) * Self.second)
    }

    @Test(arguments: [UInt64(31), 32]) func aRefusedConnectionSpeedsUpTheVerdict(seed: UInt64) throws {
        var site = GossipSimulator(count: 8, seed: seed)
        site.joinAll()
        site.run(for: 5 * Self.second)
        site.crash(3)
        for i in [1, 5] { site.with(i) { $0.noteUnreachable(GossipSimulator.id(3), now: $1) } }
        let time = try #require(
            site.run(within: 10 * Self.second) { site in site.running.allSatisfy { site.state(of: 3, seenBy: $0) == .dead } })
        print("death with hints N=8 seed \(seed): \(time / 1_000_000) ms")
        #expect(time <= 6 * Self.second)
    }

    @Test func noteUnreachableDoesNotKillTheLiving() {
        var site = GossipSimulator(count: 8, seed: 33)
        site.joinAll()
        site.run(for: 3 * Self.second)
        for i in [1, 2, 4, 5] { site.with(i) { $0.noteUnreachable(GossipSimulator.id(3), now: $1) } }
        site.run(for: 30 * Self.second)
        #expect(site.agree())
    }

    @Test(arguments: [(8, 60, 41), (32, 120, 42), (8, 400, 43)] as [(Int, UInt64, UInt64)])
    func theSidesOfAPartitionMeetAgain(count: Int, seconds: UInt64, seed: UInt64) throws {
        var site = GossipSimulator(count: count, seed: seed)
        site.joinAll()
        site.run(for: 5 * Self.second)
        for i in 0..<(count / 2) { site.nodes[i].side = 1 }
        site.run(for: seconds * Self.second)
        #expect(site.agree(Array(0..<(count / 2))))
        #expect(site.agree(Array((count / 2)..<count)))
        for i in site.nodes.indices { site.nodes[i].side = 0 }
        let time = try #require(site.run(within: 60 * Self.second, step: Self.second) { $0.agree() })
        print("heal N=\(count) after \(seconds) s seed \(seed): \(time / 1_000_000) ms")
    }

    @Test(arguments: [UInt64(51), 52]) func aRestartedNodeIsBackAtOnce(seed: UInt64) throws {
        var site = GossipSimulator(count: 8, seed: seed, network: .init(loss: 50))
        site.joinAll()
        site.run(for: 5 * Self.second)
        site.crash(2)
        site.run(for: seed == 51 ? Self.second : 20 * Self.second)
        site.restart(2, joining: 0)
        let time = try #require(site.run(within: 10 * Self.second) { $0.agree() })
        print("restart seed \(seed): \(time / 1_000_000) ms")
    }

    @Test func aGoodbyeIsHeardWithinASecondAndIsNoDeath() throws {
        var site = GossipSimulator(count: 16, seed: 61)
        site.joinAll()
        site.run(for: 3 * Self.second)
        site.with(4) { $0.leave(now: $1) }
        let others = site.running.filter { $0 != 4 }
        let told = site.run(within: Self.second) { site in site.nodes[4].machine.hasLeft }
        #expect(told != nil)
        site.crash(4)
        let heard = site.run(within: Self.second) { site in others.allSatisfy { site.state(of: 4, seenBy: $0) == .left } }
        #expect(heard != nil)
        site.run(for: 20 * Self.second)
        let still = others.map { site.state(of: 4, seenBy: $0) }
        #expect(still.allSatisfy { $0 == .left })
    }

    @Test func anIdleSiteOfEightIsQuiet() {
        var site = GossipSimulator(count: 8, seed: 71)
        site.joinAll()
        site.run(for: 30 * Self.second)
        for i in site.nodes.indices { site.nodes[i].bytesSent = 0 }
        site.run(for: 120 * Self.second)
        let rates = site.nodes.map { $0.bytesSent / 120 }
        print("idle bytes/s N=8: \(rates)")
        #expect((rates.max() ?? 0) <= 700)
    }
}
