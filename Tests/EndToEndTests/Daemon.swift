import Foundation
import Synchronization
import Testing

/// A `chunkmeshd` with a cache, ports and a configuration of its own.
final class Daemon: Sendable {
    let bench: Bench
    let name: String
    let meshPort: Int
    let apiPort: Int
    let configuration: String
    let socket: String
    private let current = Mutex<Program?>(nil)

    init(bench: Bench, name: String, key: String?, seeds: [Daemon], settings: [String: String]) throws {
        (self.bench, self.name) = (bench, name)
        (meshPort, apiPort) = (Ports.free(), Ports.free())
        configuration = bench.sub(name + ".yaml")
        socket = settings["api.socket"] ?? bench.sub(name) + "/api.sock"
        var all = [
            "node.name": name, "node.site": "lab", "mesh.listen": "127.0.0.1:\(meshPort)", "mesh.multicast": "false",
            "cache.dir": bench.sub(name), "cache.minFree": "0%", "api.listen": "127.0.0.1:\(apiPort)",
        ]
        if let key { all["mesh.keyFile"] = key }
        if !seeds.isEmpty { all["mesh.seeds"] = "[" + seeds.map { "\"127.0.0.1:\($0.meshPort)\"" }.joined(separator: ", ") + "]" }
        try write(all.merging(settings) { $1 })
    }

    /// `group.key: value`, as YAML.
    private func write(_ settings: [String: String]) throws {
        var text = ""
        let groups = Dictionary(grouping: settings.keys.sorted()) { $0.split(separator: ".")[0] }
        for (group, keys) in groups.sorted(by: { $0.key < $1.key }) {
            text += "\(group):\n"
            for key in keys {
                let value = settings[key]!
                text += "  \(key.split(separator: ".")[1]): \(value.hasPrefix("[") ? value : "\"\(value)\"")\n"
            }
        }
        try text.write(toFile: configuration, atomically: true, encoding: .utf8)
    }

    var cache: String { bench.sub(name) }
    var url: String { "http://127.0.0.1:\(apiPort)" }
    var program: Program { current.withLock { $0! } }
    var log: String { program.errors }

    /// - Parameter shell: commands that run before it, in its process: `ulimit`, a mount in a namespace of its own.
    func start(
        environment: [String: String] = [:], shell: String? = nil, _ place: SourceLocation = #_sourceLocation
    ) async throws {
        let program =
            if let shell {
                try bench.start(
                    "/usr/bin/unshare",
                    ["--mount", "/bin/sh", "-c", shell + "\nexec \"$@\"", "sh", Program.folder + "/chunkmeshd", "--config", configuration],
                    environment: environment)
            } else {
                try bench.start("chunkmeshd", ["--config", configuration], environment: environment)
            }
        current.withLock { $0 = program }
        try await eventually("\(name) is ready", place) {
            guard program.isRunning else {
                try #require(Bool(false), "\(name) ended: \(program.errors.suffix(600))", sourceLocation: place)
                return false
            }
            return try await get("/readyz", place).text.contains("ready")
        }
    }

    func killed() async {
        program.signal(SIGKILL)
        _ = await program.outcome()
    }

    /// SIGTERM; says how it ended and how long that took.
    func terminated() async -> (status: Int32, time: Duration) {
        let begin = ContinuousClock.now
        program.signal(SIGTERM)
        let outcome = await program.outcome(within: .seconds(20))
        return (outcome.status, ContinuousClock.now - begin)
    }

    @discardableResult
    func chunkmesh(_ arguments: String..., at place: SourceLocation = #_sourceLocation) async throws -> Outcome {
        try await bench.run("chunkmesh", arguments + ["--api", "unix:" + socket], place)
    }

    /// The command must be done, and print one JSON document.
    @discardableResult
    func json(_ arguments: String..., at place: SourceLocation = #_sourceLocation) async throws -> JSON {
        let outcome = try await bench.run("chunkmesh", arguments + ["--json", "--api", "unix:" + socket], place)
        #expect(outcome.status == 0, "\(arguments): \(outcome.errors)", sourceLocation: place)
        return try outcome.json(place)
    }

    /// curl over the Unix socket.
    func get(_ path: String, _ place: SourceLocation = #_sourceLocation) async throws -> Outcome {
        try await bench.run("/usr/bin/curl", ["-s", "--max-time", "20", "--unix-socket", socket, "http://localhost" + path], place)
    }

    func api(_ path: String, _ place: SourceLocation = #_sourceLocation) async throws -> JSON { try await get(path, place).json(place) }

    /// Resident bytes, now and at most.
    var memory: Int { memory("VmRSS") }
    var peakMemory: Int { memory("VmHWM") }

    private func memory(_ name: String) -> Int {
        let status = (try? String(contentsOfFile: "/proc/\(program.pid)/status", encoding: .utf8)) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix(name + ":") } ?? ""
        return (line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0) << 10
    }

    /// Seconds of processor time.
    var processorTime: Double {
        let text = (try? String(contentsOfFile: "/proc/\(program.pid)/stat", encoding: .utf8)) ?? ""
        let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
        guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else { return 0 }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }
}
