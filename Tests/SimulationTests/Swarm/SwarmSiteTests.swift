@testable import MeshSimulation
import Testing

/// A site whose nodes want an flist that another site has, wholly or in part.
@Suite struct SwarmSiteTests {
    private func swarm(_ seed: UInt64, held: Set<Int>, line: Double = 20e6 / 8) -> (Swarm, SwarmSite) {
        let swarm = Swarm(Swarm.Setup(seed: seed))
        let site = SwarmSite(holding: held, bytesPerSecond: line)
        swarm.otherSite = site
        return (swarm, site)
    }

    /// All want everything, some seconds after they have met.
    private func run(_ swarm: Swarm) {
        for index in swarm.nodes.indices {
            swarm.start(index, wanting: 0..<0)
            swarm.start(index, at: .seconds(3))
        }
        swarm.run()
    }

    @Test(arguments: [UInt64(1), 2, 3]) func chunksCrossTheLineBetweenSitesOnce(seed: UInt64) {
        let (swarm, site) = swarm(seed, held: Set(0..<96))
        run(swarm)
        #expect(swarm.allComplete)
        let crossings = site.crossings.values.reduce(0, +)
        let upstream = swarm.nodes.reduce(0) { $0 + $1.fromUpstream }
        print("herd of 8 beside a site with 96 of 128 chunks, seed \(seed): \(crossings) crossed, \(upstream) from upstream")
        // Two of a hundred may be asked for again, where a chunk that was to be handed on is taken for slow.
        #expect((96...98).contains(crossings) && site.crossings.count == 96, "seed \(seed)")
        #expect(upstream == 32, "seed \(seed)")
    }

    @Test(arguments: [UInt64(4), 5]) func withoutAHubTheOtherSiteIsEnough(seed: UInt64) {
        let (swarm, site) = swarm(seed, held: Set(0..<128))
        swarm.takeHubDown(.zero ... .seconds(1000))
        run(swarm)
        #expect(swarm.allComplete && swarm.nodes.allSatisfy { $0.fromUpstream == 0 && $0.failures == 0 })
        #expect(site.crossings.values.reduce(0, +) == 128, "seed \(seed)")
    }

    @Test(arguments: [UInt64(6), 7]) func oneDeadGatewayOrOldNewsSendNothingTwice(seed: UInt64) {
        let (swarm, site) = swarm(seed, held: Set(0..<100))
        site.announced = Set(0..<128)
        site.deadFrom[0] = .seconds(5)
        run(swarm)
        #expect(swarm.allComplete && swarm.nodes.allSatisfy { $0.failures == 0 })
        let arrived = swarm.nodes.reduce(0) { $0 + $1.fromSite + $1.fromUpstream }
        #expect(arrived <= 128 + 3, "seed \(seed): \(arrived)")
    }

    @Test func aSlowSiteLeavesTheWorkToUpstream() {
        let (swarm, _) = swarm(8, held: Set(0..<128), line: 20e6 / 8 / 40)
        run(swarm)
        #expect(swarm.allComplete)
        print("a line 40 times slower than upstream: \(swarm.seconds) s, ideal \(swarm.idealSeconds) s")
        #expect(swarm.seconds <= swarm.idealSeconds * 2)
    }
}
