internal import ArgumentParser
internal import MeshSimulation

/// Asks the pure machines of a mesh, under virtual time, what a site of many nodes would do.
@main
struct MeshSimulationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mesh-simulation", abstract: "What a mesh of many nodes would do: the real machines, simulated links, virtual time.")
}
