public import ControlModel
internal import Glibc
internal import GracefulServices
internal import Hummingbird
internal import HummingbirdCore
public import Logging
public import ServiceLifecycle

/// The HTTP API of a node on its Unix socket and, unless switched off, on a TCP address.
public struct ControlAPI: Service {
    /// Of each listener: a twelfth of the process's descriptors, within these bounds. Further clients wait in the kernel's queue: accepting them
    /// until nothing is left would leave none for chunks, and the server goes round in circles when accepting fails.
    static let connections = 8...1024
    static let descriptorShare = 12
    /// Answers under way at the end get so long to finish.
    static let shutdownSeconds = 5
    /// `sun_path` holds 108 bytes with its end.
    static let maxSocketPathBytes = 107

    let node: any NodeControl
    let socket: String
    let listen: (host: String, port: Int)?
    let logger: Logger

    public init(node: any NodeControl, socket: String, listen: (host: String, port: Int)?, logger: Logger) {
        (self.node, self.socket, self.listen, self.logger) = (node, socket, listen, logger)
    }

    /// Serves until the task is cancelled or the group shuts down gracefully.
    ///
    /// - Throws: one clear line when a port or path cannot be bound.
    public func run() async throws {
        guard socket.utf8.count <= Self.maxSocketPathBytes else {
            throw ControlAPIError(line: "api.socket is longer than \(Self.maxSocketPathBytes) bytes: \(socket)")
        }
        // Left behind by a daemon that was killed; the lock on the cache directory says that none runs now.
        var status = stat()
        if lstat(socket, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK { unlink(socket) }
        defer { unlink(socket) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await serve(.unixDomainSocket(path: socket), place: socket, isLocal: true) { chmod(socket, 0o660) }
            }
            if let listen {
                group.addTask {
                    let isLocal = LocalOnly<BasicRequestContext>.isLoopback(listen.host)
                    try await serve(.hostname(listen.host, port: listen.port), place: "\(listen.host):\(listen.port)", isLocal: isLocal) {}
                }
            }
            // One that cannot listen throws here at once, and leaving the group ends the other.
            while try await group.next() != nil {}
        }
    }

    private static var mostConnections: Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return connections.lowerBound }
        return min(max(Int(clamping: limit.rlim_cur) / descriptorShare, connections.lowerBound), connections.upperBound)
    }

    private func serve(_ address: BindAddress, place: String, isLocal: Bool, onRunning: @escaping @Sendable () -> Void) async throws {
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        let application = Application(
            router: ControlRoutes.router(for: node, isLocal: isLocal), server: HTTPServerBuilder { FileSendingChannel($0, node: node) },
            configuration: .init(
                address: address, serverName: nil,
                availableConnectionsDelegate: MaximumAvailableConnections(Self.mostConnections, logger: quiet)),
            onServerRunning: { _ in
                onRunning()
                logger.info("API answers", metadata: ["address": "\(place)"])
            }, logger: quiet)
        do {
            try await GracefulService(application, grace: Self.shutdownSeconds, logger: quiet).run()
        } catch {
            throw ControlAPIError(
                line: "the API cannot listen on \(place): \(error); is another daemon running? Set api.listen or api.socket")
        }
    }
}

/// The API could not be started.
public struct ControlAPIError: Error, CustomStringConvertible, Sendable {
    let line: String
    public var description: String { line }
}
