import Foundation
import Testing

@testable import MeshSimulation

/// The planner in a site of many nodes. The bounds are the ones that the project promises, without packet headers.
@Suite(.serialized) struct SwarmTests {
    /// All nodes are up and know each other before anything is wanted.
    private func site(_ change: (inout Swarm.Setup) -> Void = { _ in }) -> Swarm {
        var setup = Swarm.Setup()
        change(&setup)
        let swarm = Swarm(setup)
        for node in swarm.nodes { node.startedAt = .seconds(-60) }
        return swarm
    }

    private func report(_ what: String, _ swarm: Swarm) {
        let setup = swarm.setup
        let egress = (swarm.egress * 10_000).rounded() / 10_000
        let time = (swarm.seconds / swarm.idealSeconds * 10_000).rounded() / 10_000
        print("\(what) N=\(setup.nodes) chunks=\(setup.chunks) seed=\(setup.seed): egress \(egress), time ÷ ideal \(time)")
    }

    @Test(arguments: [(1, 128), (4, 128), (8, 128), (16, 64), (64, 16), (256, 4)], [1, 2] as [UInt64])
    func `a herd pulls every chunk once and in the time that the line needs`(size: (nodes: Int, chunks: Int), seed: UInt64) {
        let swarm = site { ($0.nodes, $0.chunks, $0.seed) = (size.nodes, size.chunks, seed) }
        swarm.startAll()
        swarm.run()
        report("herd", swarm)
        #expect(swarm.allComplete, "seed \(seed)")
        #expect(swarm.upstreamBegun == size.chunks, "seed \(seed)")
        // The owner of the last chunk sends it to all others.
        let fanOut = Double(size.nodes) * swarm.setup.chunkBytes / swarm.setup.lanBytesPerSecond
        // The last chunk's way through the LAN, and requests that do not overlap, weigh more in a short run.
        #expect(swarm.seconds <= swarm.idealSeconds * 1.02 + 0.3 + fanOut, "seed \(seed)")
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `a herd in which every node has its own order, or that starts one after the other`(seed: UInt64) {
        let shuffled = site { ($0.order, $0.seed, $0.window) = (.shuffled, seed, 32) }
        shuffled.startAll()
        shuffled.run()
        report("shuffled", shuffled)
        #expect(shuffled.allComplete)
        #expect(shuffled.egress <= 1.02, "seed \(seed)")

        // Nodes appear while others are at work: views of who owns what differ for half a second each time.
        let rolling = Swarm(Swarm.Setup(seed: seed))
        for node in rolling.nodes { rolling.start(node.index, at: .seconds(1) * node.index) }
        rolling.run()
        report("rolling starts", rolling)
        #expect(rolling.allComplete)
        #expect(rolling.egress <= 1.06, "seed \(seed)")
        #expect(rolling.seconds <= rolling.idealSeconds * 1.08 + 0.3, "seed \(seed)")
    }

    @Test(arguments: [Swarm.Death.reset, .silent], [1, 2, 3, 4] as [UInt64])
    func `one node dies half-way: the others complete, and little is fetched again`(death: Swarm.Death, seed: UInt64) {
        let swarm = site { $0.seed = seed }
        swarm.startAll()
        swarm.kill(3, death, at: .seconds(13))
        swarm.run()
        report("killed (\(death))", swarm)
        #expect(swarm.allComplete, "seed \(seed)")
        #expect(swarm.nodes.allSatisfy { $0.failures == 0 }, "seed \(seed)")
        #expect(swarm.egress <= 1 + 3.0 / 128, "seed \(seed)")
        #expect(swarm.seconds <= swarm.idealSeconds * 1.05 + 2, "seed \(seed)")
    }

    @Test(arguments: [1, 2] as [UInt64])
    func `a late joiner takes nothing from upstream`(seed: UInt64) {
        let swarm = site { $0.seed = seed }
        for index in 0..<7 { swarm.start(index) }
        swarm.start(7, at: .seconds(40))
        swarm.quietFrom = .seconds(41)
        swarm.run()
        #expect(swarm.allComplete)
        #expect(swarm.upstreamBegun == 128)
        #expect(swarm.nodes[7].completedAt.map { $0 < .seconds(42) } == true)
    }

    @Test(arguments: [1, 2] as [UInt64])
    func `the hub is down for ten seconds, and nobody fails`(seed: UInt64) {
        let swarm = site { $0.seed = seed }
        swarm.takeHubDown(.seconds(8)...(.seconds(18)))
        swarm.startAll()
        swarm.run()
        report("hub down 10 s", swarm)
        #expect(swarm.allComplete, "seed \(seed)")
        #expect(swarm.nodes.allSatisfy { $0.failures == 0 }, "seed \(seed)")
        #expect(swarm.egress <= 1 + 10.0 / 128, "seed \(seed)")
        #expect(swarm.seconds <= swarm.idealSeconds * 1.05 + 10 + 12, "seed \(seed)")
    }

    @Test(arguments: [1, 2] as [UInt64])
    func `a peer that sends garbage costs neither completeness nor much of the line`(seed: UInt64) {
        let swarm = site { $0.seed = seed }
        swarm.nodes[2].garbles = true
        swarm.startAll()
        swarm.run()
        report("garbage", swarm)
        #expect(swarm.allComplete, "seed \(seed)")
        // What the garbler fetched as owner before it was shunned is fetched again.
        #expect(swarm.egress <= 1 + 32.0 / 128, "seed \(seed)")
    }

    @Test(arguments: [1, 2] as [UInt64])
    func `a peer that never answers is passed over`(seed: UInt64) {
        let swarm = site { ($0.seed, $0.chunks) = (seed, 64) }
        swarm.nodes[2].stalls = true
        for index in swarm.nodes.indices where index != 2 { swarm.start(index) }
        swarm.nodes[2].completedAt = .zero
        swarm.run()
        report("stalled", swarm)
        #expect(swarm.allComplete, "seed \(seed)")
        #expect(swarm.egress <= 1.05, "seed \(seed)")
        #expect(swarm.seconds <= swarm.idealSeconds * 1.05 + 4, "seed \(seed)")
    }

    @Test func `a read during a prefetch waits for the transfers under way at most`() {
        let swarm = site()
        swarm.startAll()
        for (count, chunk) in (100..<110).enumerated() {
            swarm.at(.seconds(2) + .seconds(1) * count) { swarm.nodes[count % 8].read(chunk) }
        }
        swarm.run()
        let latencies = swarm.nodes.flatMap(\.readLatency.values)
        print("reads during a prefetch: up to \(latencies.max() ?? .zero)")
        #expect(latencies.count == 10)
        // The owner's place becomes free after one share of the line, and then the chunk needs one: 8 × 210 ms each.
        #expect(latencies.allSatisfy { $0 < .seconds(4) })
        #expect(swarm.upstreamBegun == 128)
    }

    @Test(arguments: [1, 2] as [UInt64])
    func `both halves of a divided site complete, and share again afterwards`(seed: UInt64) {
        let swarm = site { ($0.seed, $0.chunks) = (seed, 64) }
        swarm.partition = (4, .seconds(3)...(.seconds(10)))
        swarm.startAll()
        swarm.run()
        report("partition", swarm)
        #expect(swarm.allComplete, "seed \(seed)")
        #expect(swarm.egress <= 1.9, "seed \(seed)")
    }

    @Test func `a chunk is pulled once also when the wants trickle in`() {
        let swarm = site { $0.chunks = 32 }
        for node in swarm.nodes {
            for chunk in 0..<32 {
                let at: Duration = .milliseconds(300) * chunk + .milliseconds(70) * node.index
                swarm.at(at) { node.read(chunk) }
            }
            swarm.at(.seconds(15)) { node.start(Array(0..<32)) }
        }
        swarm.run()
        #expect(swarm.allComplete)
        #expect(swarm.upstreamBegun == 32)
    }

    @Test(arguments: [(2, 128, 1.02), (4, 256, 1.06), (8, 256, 1.12), (48, 128, 1.4)])
    func `a LAN swarm needs little more than one copy takes on one port`(size: (nodes: Int, chunks: Int, limit: Double)) {
        var scenario = SwarmScenario(.swarm, nodes: size.nodes, chunks: size.chunks)
        scenario.lanRate = 200e6
        let outcome = scenario.run()
        print("LAN swarm N=\(size.nodes): time ÷ ideal \(outcome.makespanRatio), the seeder sends \(outcome.sent[0])")
        #expect(outcome.complete == size.nodes && outcome.failures == 0)
        #expect(outcome.makespanRatio <= size.limit)
        #expect(outcome.egressRatio == 0)
        // The seeder is relieved, and nobody receives much twice.
        #expect(outcome.sent[0] <= 1.1)
        #expect(outcome.received.allSatisfy { $0 <= 1.03 })
    }

    @Test(arguments: [Swarm.Death.reset, .silent], [1, 2] as [UInt64])
    func `a LAN swarm outlives the death of one that hands on`(death: Swarm.Death, seed: UInt64) {
        let swarm = site { ($0.seed, $0.chunks, $0.seeders, $0.lanBytesPerSecond) = (seed, 256, 1, 200e6 / 8) }
        swarm.startAll()
        swarm.kill(3, death, at: .seconds(2))
        swarm.run()
        let ratio = swarm.seconds * swarm.setup.lanBytesPerSecond / (256 * swarm.setup.chunkBytes)
        print("LAN swarm, one killed (\(death)), seed \(seed): time ÷ ideal \(ratio)")
        #expect(swarm.allComplete, "seed \(seed)")
        #expect(swarm.nodes.allSatisfy { $0.failures == 0 }, "seed \(seed)")
        #expect(ratio <= (death == .reset ? 1.3 : 1.8), "seed \(seed)")
    }

    @Test(.enabled(if: ProcessInfo.processInfo.environment["CHUNKMESH_SWEEP"] != nil, "figures for choosing the number of places, by hand"))
    func sweep() {
        for (site, least) in [(2, 1), (4, 1), (8, 1), (8, 2), (16, 2), (24, 3), (32, 4)] {
            for nodes in [1, 4, 8, 16] {
                for order in [Swarm.Setup.Order.flist] {
                    var times: [Double] = []
                    var kills: [(Double, Double)] = []
                    for seed in 1...2 as ClosedRange<UInt64> {
                        let run = self.site {
                            ($0.nodes, $0.seed, $0.sitePlaces, $0.leastPlaces, $0.order) = (nodes, seed, site, least, order)
                        }
                        run.startAll()
                        run.run()
                        times.append(run.seconds / run.idealSeconds)
                        guard nodes > 1 else { continue }
                        let kill = self.site {
                            ($0.nodes, $0.seed, $0.sitePlaces, $0.leastPlaces, $0.order) = (nodes, seed, site, least, order)
                        }
                        kill.startAll()
                        kill.kill(1, .reset, at: .seconds(13))
                        kill.run()
                        kills.append((kill.egress, kill.seconds / kill.idealSeconds))
                    }
                    let all = times.map { ($0 * 1000).rounded() / 1000 }
                    let killed = kills.map { "\(($0.0 * 1000).rounded() / 1000)/\(($0.1 * 1000).rounded() / 1000)" }
                    print("site \(site) least \(least) N=\(nodes) \(order): time \(all), killed egress/time \(killed)")
                }
            }
        }
    }
}
