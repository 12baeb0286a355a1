internal import FetchPlanner
internal import Gossip

/// A question about a site of many nodes that want the same chunks, put to the real planner in every node under virtual time: one
/// seed, one history.
public struct SwarmScenario: Sendable {
    public enum Start: String, Sendable, CaseIterable {
        /// All want everything at the same moment; it is upstream.
        case herd
        /// Programs read the chunks one after the other, on each node a little later, and then all want the rest.
        case trickle
        /// The nodes are started, and want everything, one after the other over the time that the line needs for one copy.
        case rolling
        /// Few nodes hold everything, all others want it at the same moment, and no line leads out of the site.
        case swarm
    }

    public var start: Start
    public var nodes: Int
    /// Of 512 KiB each.
    public var chunks: Int
    public var seed: UInt64 = 1
    /// Bits a second: the site's line, and each node's port, both ways.
    public var lineRate: Double = 20e6
    public var lanRate: Double = 1e9
    /// Nodes that hold everything from the beginning (`swarm`).
    public var seeders = 1
    /// Between the first and the last node that is told to begin, in any order (`swarm`).
    public var startSpread: Duration = .zero
    /// How long news takes from one node to another: between these, different for each chunk and pair.
    public var news: (least: Duration, most: Duration) = (.milliseconds(50), .milliseconds(500))
    /// Virtual time after which the run is over in any case.
    public var limit: Duration = .seconds(3600)

    public init(_ start: Start, nodes: Int, chunks: Int) { (self.start, self.nodes, self.chunks) = (start, max(1, nodes), max(1, chunks)) }

    /// What came of it.
    public struct Outcome: Sendable {
        /// Nodes that hold everything in the end.
        public let complete: Int
        /// Seconds until the last of them does, and divided by what one copy needs: on the line, or (`swarm`) on one port.
        public let seconds: Double
        public let makespanRatio: Double
        /// Bytes pulled from upstream ÷ payload.
        public let egressRatio: Double
        /// Payloads that each node sent and received, in the order of the nodes.
        public let sent: [Double]
        public let received: [Double]
        /// Chunks of all nodes that were given up.
        public let failures: Int
    }

    public func run() -> Outcome {
        var setup = Swarm.Setup()
        (setup.nodes, setup.chunks, setup.seed) = (nodes, chunks, seed)
        (setup.uplinkBytesPerSecond, setup.lanBytesPerSecond) = (lineRate / 8, lanRate / 8)
        setup.gossip = news
        setup.seeders = start == .swarm ? min(max(1, seeders), nodes) : 0
        let swarm = Swarm(setup)
        let payload = Double(chunks) * setup.chunkBytes
        switch start {
        case .herd:
            for node in swarm.nodes { node.startedAt = .seconds(-60) }
            swarm.startAll()
        case .swarm:
            var random = SplitMix64(seed: seed &+ 17)
            for node in swarm.nodes {
                node.startedAt = .seconds(-60)
                swarm.start(node.index, at: startSpread / 1000 * Int.random(in: 0..<1000, using: &random))
            }
        case .rolling:
            let pause: Duration = .seconds(swarm.idealSeconds / Double(nodes))
            for node in swarm.nodes { swarm.start(node.index, at: pause * node.index) }
        case .trickle:
            let pause: Duration = .seconds(setup.chunkBytes / setup.uplinkBytesPerSecond)
            for node in swarm.nodes {
                node.startedAt = .seconds(-60)
                let late = pause / nodes * node.index
                for chunk in 0..<chunks { swarm.at(pause * chunk + late) { node.read(chunk) } }
                swarm.start(node.index, at: pause * chunks)
            }
        }
        swarm.run(limit: limit)
        let ideal = start == .swarm ? payload / setup.lanBytesPerSecond : swarm.idealSeconds
        return Outcome(
            complete: swarm.nodes.count { $0.completedAt != nil }, seconds: swarm.seconds, makespanRatio: swarm.seconds / ideal,
            egressRatio: swarm.egress, sent: swarm.nodes.map { $0.bytesSent / payload },
            received: swarm.nodes.map { $0.bytesReceived / payload }, failures: swarm.nodes.reduce(0) { $0 + $1.failures })
    }
}
