internal import ArgumentParser
internal import MeshSimulation

/// What the scenarios of fetching have.
struct SwarmOptions: ParsableArguments {
    @Option(help: "Nodes of the site.") var nodes = 8
    @Option(help: "Chunks of 512 KiB that all of them want.") var chunks = 128
    @Option(help: "One seed, one history.") var seed: UInt64 = 1
    @Option(help: "The site's line, Mbit/s.") var rate = 20.0
    @Option(help: "Each node's port, each way, Mbit/s.") var lan = 1_000.0
    @Option(help: "The longest that news takes from one node to another, milliseconds; a tenth of it is the shortest.") var delay = 500
    @Flag(help: "One JSON object instead of lines.") var json = false

    func validate() throws {
        guard (1...2_000).contains(nodes) else { throw ValidationError("--nodes: 1...2000") }
        guard (1...100_000).contains(chunks) else { throw ValidationError("--chunks: 1...100000") }
        guard rate > 0, lan > 0 else { throw ValidationError("--rate, --lan: more than 0 Mbit/s") }
        guard (1...600_000).contains(delay) else { throw ValidationError("--delay: 1...600000 milliseconds") }
    }

    func run(_ start: SwarmScenario.Start) throws {
        var scenario = SwarmScenario(start, nodes: nodes, chunks: chunks)
        (scenario.seed, scenario.lineRate, scenario.lanRate) = (seed, rate * 1e6, lan * 1e6)
        scenario.news = (.milliseconds(delay) / 10, .milliseconds(delay))
        try Report.measure(json) { SwarmReport(scenario.run()) }
    }
}

/// An outcome without its figure for each node.
struct SwarmReport: Encodable {
    let complete: Int
    let seconds: Double
    let makespanRatio: Double
    let egressRatio: Double
    /// Payloads that a node sent to others.
    let sent: Spread
    let failures: Int

    init(_ outcome: SwarmScenario.Outcome) {
        (complete, seconds, makespanRatio) = (outcome.complete, outcome.seconds, outcome.makespanRatio)
        (egressRatio, sent, failures) = (outcome.egressRatio, Spread(outcome.sent), outcome.failures)
    }
}

extension MeshSimulationCommand {
    struct Herd: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All want everything at the same moment: uplink bytes and makespan.")
        @OptionGroup var options: SwarmOptions
        func run() throws { try options.run(.herd) }
    }

    struct Trickle: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Chunks are read one after the other, on each node a little later.")
        @OptionGroup var options: SwarmOptions
        func run() throws { try options.run(.trickle) }
    }

    struct Rolling: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Nodes start one after the other, over the time that one copy needs.")
        @OptionGroup var options: SwarmOptions
        func run() throws { try options.run(.rolling) }
    }

    struct Swarm: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "One node holds everything, all others want it, and no line leads out.")
        @OptionGroup var options: SwarmOptions
        func run() throws { try options.run(.swarm) }
    }
}
