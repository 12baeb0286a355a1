import Testing

/// The planner in a site of many nodes. The bounds are the ones that the project promises, without packet headers.
@Suite struct SwarmTests {
    /// All nodes are up and know each other before anything is wanted.
    private func site(_ change: (inout Swarm.Setup) -> Void = { _ in }) -> Swarm {
        var setup = Swarm.Setup()
        change(&setup)
        let swarm = Swarm(setup)
        for node in swarm.nodes { node.startedAt = .seconds(-60) }
        return swarm
    }

    @Test(arguments: [4, 8, 16, 64], [1, 2, 3] as [UInt64])
    func `a herd pulls every chunk once and in the time that the line needs`(nodes: Int, seed: UInt64) {
        let swarm = site { ($0.nodes, $0.seed) = (nodes, seed) }
        swarm.startAll()
        swarm.run()
        print("herd N=\(nodes) seed=\(seed): egress \(swarm.egress) time \(swarm.seconds / swarm.idealSeconds)")
        #expect(swarm.allComplete, "seed \(seed)")
        #expect(swarm.upstreamBegun == 128, "seed \(seed)")
        #expect(swarm.seconds <= swarm.idealSeconds * 1.03, "seed \(seed)")
    }
}
