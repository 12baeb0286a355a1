internal import ArgumentParser
internal import CLinux
internal import Glibc
internal import MeshSimulation

/// Asks the pure machines of a mesh, under virtual time, what a site of many nodes would do.
@main
struct MeshSimulationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mesh-simulation", abstract: "What a mesh of many nodes would do: the real machines, simulated links, virtual time.",
        subcommands: [
            Boot.self, Idle.self, Busy.self, Join.self, Detect.self, Memory.self, Herd.self, Trickle.self, Rolling.self, Swarm.self,
        ])

    /// Dictionaries have another order in each process unless this is set before it starts; the planner's history depends on that.
    private static let hashing = "SWIFT_DETERMINISTIC_HASHING"

    static func main() {
        if getenv(hashing) == nil, setenv(hashing, "1", 1) == 0 {
            var arguments = CommandLine.arguments.map { strdup($0) }
            arguments.append(nil)
            execv("/proc/self/exe", arguments)
        }
        MeshSimulationCommand.main(nil)
    }
}

/// What all scenarios of gossip have.
struct GossipOptions: ParsableArguments {
    @Option(help: "Nodes of the site.") var nodes = 1_000
    @Option(help: "One seed, one history.") var seed: UInt64 = 1
    @Option(help: "Datagrams lost, percent.") var loss = 0.0
    @Option(help: "Each node's port, each way, Mbit/s.") var port = 1_000.0
    @Flag(help: "One JSON object instead of lines.") var json = false

    func validate() throws {
        guard (2...2_000).contains(nodes) else { throw ValidationError("--nodes: 2...2000, the members that a node keeps") }
        guard (0...99).contains(loss) else { throw ValidationError("--loss: 0...99 percent") }
        guard port > 0, port <= 1_000_000 else { throw ValidationError("--port: more than 0, up to 1,000,000 Mbit/s") }
    }

    var scenario: GossipScenario {
        var scenario = GossipScenario()
        scenario.nodes = nodes
        scenario.seed = seed
        scenario.loss = Int(loss * 10)
        scenario.portBytesPerSecond = UInt64(port * 125_000)
        return scenario
    }
}

extension MeshSimulationCommand {
    struct Boot: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "All nodes start within a second: how soon do they know each other?")
        @OptionGroup var options: GossipOptions
        @Option(help: "Milliseconds within which all start.") var spread: UInt64 = 1_000

        func run() throws {
            try Report.measure(options.json) { options.scenario.boot(spread: max(spread, 1) * 1_000_000) }
        }
    }

    struct Idle: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Nothing happens: traffic, suspicions, and who is taken for dead wrongly.")
        @OptionGroup var options: GossipOptions
        @Option(help: "Virtual minutes.") var minutes = 5.0

        func run() throws {
            try Report.measure(options.json) { options.scenario.quiet(for: UInt64(minutes * 60e9)) }
        }
    }

    struct Busy: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "What nodes hold changes: how soon it is known, and what it costs.")
        @OptionGroup var options: GossipOptions
        @Option(help: "Virtual minutes.") var minutes = 2.0
        @Option(help: "Nodes whose holdings change, percent.") var changing = 100.0
        @Option(help: "Seconds from one change of such a node to its next.") var every = 1.0

        func run() throws {
            try Report.measure(options.json) {
                options.scenario.availability(
                    changing: Int(changing * 10), every: UInt64(max(every, 0.001) * 1e9), for: UInt64(minutes * 60e9))
            }
        }
    }

    struct Join: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "A node joins with an flist of many chunks: when does everybody know them?")
        @OptionGroup var options: GossipOptions
        @Option(help: "Chunks of the flist, of which it holds every second one.") var chunks = 1_000_000
        @Option(help: "Nodes that join, one after the other.") var runs = 3

        func run() throws { try Report.measure(options.json) { options.scenario.join(chunks: chunks, runs: runs) } }
    }

    struct Detect: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Nodes are killed: when does everybody know?")
        @OptionGroup var options: GossipOptions
        @Option(help: "Nodes killed, one after the other.") var kills = 20

        func run() throws { try Report.measure(options.json) { options.scenario.detect(kills: kills) } }
    }

    struct Memory: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Bytes on the heap of a node that knows all others.")
        @OptionGroup var options: GossipOptions
        @Option(help: "Chunks of an flist of which every node holds every second one; 0: none.") var chunks = 0

        func run() throws {
            try Report.measure(options.json) { options.scenario.memory(chunks: chunks) { Int(mallinfo2().uordblks + mallinfo2().hblkhd) } }
        }
    }
}
