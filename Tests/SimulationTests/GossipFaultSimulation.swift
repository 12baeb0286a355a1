import ChunkModel
import Gossip
import MeshKeys
import Testing

@testable import MeshSimulation

/// Networks that fail in other ways than by losing datagrams evenly. Failing cases print their arguments: count, loss per mille, seed.
@Suite struct GossipFaultSimulation {
    static let second: UInt64 = 1_000_000_000
    let flist = FlistDigest(Bytes32([UInt8](repeating: 5, count: 32))!)

    private func deaths(_ site: GossipSimulator, since: UInt64) -> Int {
        site.events.count { event in
            if event.time >= since, case .dead = event.event { true } else { false }
        }
    }

    @Test(arguments: [(4, 1), (8, 2), (16, 3)] as [(Int, UInt64)]) func whereOnlyStreamsPassNobodyIsTakenForDead(count: Int, seed: UInt64)
        throws
    {
        var site = GossipSimulator(count: count, seed: seed)
        site.joinAll()
        site.run(for: 5 * Self.second)
        let blocked = site.now
        site.network.loss = 1_000
        site.run(for: 120 * Self.second)
        #expect(deaths(site, since: blocked) == 0)
        // What one publishes now reaches all: everybody asks everybody in turn.
        let flist = flist
        site.edit(1) { machine in
            machine.publishFlist(flist, chunkCount: 100)
            machine.setHave(flist, [7])
        }
        let owner = GossipSimulator.id(1)
        let time = try #require(
            site.run(within: 60 * Self.second) { site in
                site.running.allSatisfy { $0 == 1 || site.nodes[$0].machine.holders(of: flist, 7).contains(owner) }
            })
        print("news by streams alone, N=\(count) seed \(seed): \(time / 1_000_000) ms")
    }

    @Test(arguments: [(2, 5), (4, 6), (8, 7)] as [(Int, UInt64)]) func whereNoDatagramEverPassedSeedsAreFoundByStreams(
        count: Int, seed: UInt64
    ) throws {
        var site = GossipSimulator(count: count, seed: seed, network: .init(loss: 1_000))
        site.joinAll()
        let time = try #require(
            site.run(within: 60 * Self.second) { site in
                site.nodes.allSatisfy { $0.machine.members.values.count { $0.state.isLive } == count - 1 }
            })
        print("join by streams alone, N=\(count) seed \(seed): \(time / 1_000_000) ms")
        let joined = site.now
        site.run(for: 60 * Self.second)
        #expect(deaths(site, since: joined) == 0)
    }

    @Test(arguments: [UInt64(11), 12]) func whereHalfOfTheDatagramsAreLostStreamsKeepTheLivingAlive(seed: UInt64) {
        var site = GossipSimulator(count: 8, seed: seed, network: .init(loss: 500))
        site.joinAll()
        site.run(for: 30 * Self.second)
        let settled = site.now
        site.run(for: 300 * Self.second)
        #expect(deaths(site, since: settled) == 0)
    }

    @Test(arguments: [UInt64(21), 22]) func aDeadNodeIsFoundAsSoonAsBeforeWhereStreamsWork(seed: UInt64) throws {
        var site = GossipSimulator(count: 8, seed: seed)
        site.joinAll()
        site.run(for: 10 * Self.second)
        site.crash(3)
        let time = try #require(
            site.run(within: 15 * Self.second) { site in site.running.allSatisfy { site.state(of: 3, seenBy: $0) == .dead } })
        #expect(time <= 8 * Self.second)
    }
}
