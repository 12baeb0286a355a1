import ArgumentParser
import ControlAPI
import Glibc
import Logging
import MeshNode
import NodeConfiguration
import ServiceLifecycle
import UnixSignals

/// The cache peer: one node of the mesh, in the foreground.
struct Daemon: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chunkmeshd", abstract: "Shares flist chunks with the other nodes of a site, and fetches once what nobody has.",
        discussion: "Logs to stderr. SIGTERM stops it gracefully, SIGHUP reads the limits of the configuration again.",
        version: MeshNode.version)

    @Option(help: ArgumentHelp("YAML file with the settings; without it, defaults and CHUNKMESH_… variables count.", valueName: "FILE"))
    var config: String?

    @Option(help: ArgumentHelp("How much to log: trace, debug, info, notice, warning, error.", valueName: "LEVEL"))
    var logLevel: String = "info"

    mutating func validate() throws {
        guard Logger.Level(rawValue: logLevel) != nil else {
            throw ValidationError("--log-level takes trace, debug, info, notice, warning or error")
        }
    }

    func run() async throws {
        // A peer that goes away while we write to it is an error of that call, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        raiseFileLimit()
        let book = RepeatLimit.Book()
        LoggingSystem.bootstrap { RepeatLimit(StreamLogHandler.standardError(label: $0), book) }
        var logger = Logger(label: "chunkmeshd")
        logger.logLevel = Logger.Level(rawValue: logLevel) ?? .info
        do {
            let configuration = try load()
            let node = try MeshNode(configuration: configuration, logger: logger)
            let api = ControlAPI(
                node: node, socket: configuration.api.socket, listen: configuration.api.listen.map { ($0.host, Int($0.port)) },
                logger: logger)
            let reload = Reload(node: node, logger: logger) { try load() }
            let group = ServiceGroup(
                configuration: ServiceGroupConfiguration(
                    services: [
                        .init(service: api, successTerminationBehavior: .gracefullyShutdownGroup),
                        .init(service: reload),
                        .init(service: node, successTerminationBehavior: .gracefullyShutdownGroup),
                    ], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
            try await group.run()
        } catch {
            let line = Array("chunkmeshd: \(error)\n".utf8)
            write(2, line, line.count)
            throw ExitCode(1)
        }
    }

    private func load() throws -> Configuration {
        var environment: [String: String] = [:]
        for entry in UnsafeBufferPointer(start: environ, count: environmentCount) {
            guard let entry, let text = String(validatingCString: entry), let equals = text.firstIndex(of: "=") else { continue }
            environment[String(text[..<equals])] = String(text[text.index(after: equals)...])
        }
        return try Configuration.load(file: config, environment: environment)
    }

    private var environmentCount: Int {
        var count = 0
        while environ[count] != nil { count += 1 }
        return count
    }

    /// Many peers mean many descriptors; the soft limit of 1,024 is a relic of select(2).
    private func raiseFileLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = min(limit.rlim_max, 65536)
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}
