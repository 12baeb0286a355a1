internal import Glibc
internal import GracefulServices
internal import Hummingbird
public import Logging
internal import NIOCore
internal import NIOPosix

/// A plain read-only HTTP hub over a `dir` store: chunks in both layouts, and the files that lie directly in the directory, such as
/// flists. No listing, no hidden files, nothing outside the directory.
public struct HubServer: Sendable {
    /// A connection without traffic is closed after this many seconds.
    public static let idleSeconds = 60
    /// Bytes of request headers read; longer ones end the connection.
    public static let maxHeaderBytes = 16 * 1024
    /// Transfers under way at the end get so long to finish.
    public static let shutdownSeconds = 5
    /// Connections waiting to be accepted.
    static let backlog = 1_024

    private let directory: String
    private let host: String
    private let port: Int
    private let logger: Logger
    private let onListening: @Sendable (_ host: String, _ port: Int) -> Void

    /// - Parameters:
    ///   - directory: of the store; `XX/HEX` or `HEX` below it.
    ///   - port: 0 for any free one.
    ///   - onListening: called once with the address in use, as soon as requests are answered.
    public init(
        directory: String, host: String, port: Int, logger: Logger,
        onListening: @escaping @Sendable (_ host: String, _ port: Int) -> Void = { _, _ in }
    ) {
        (self.directory, self.host, self.port, self.logger, self.onListening) = (directory, host, port, logger, onListening)
    }

    /// Serves until the task is cancelled or the surrounding service group shuts down.
    ///
    /// - Throws: `HubServerError` when there is no such directory or the address cannot be listened on.
    public func run() async throws {
        let files = NIOThreadPool.singleton
        let root = try await files.runIfActive { [directory] in try HubFile.root(directory) }
        // The server logs its own start with every detail; here only what went wrong, and each request for who asks for it.
        var quiet = logger
        if quiet.logLevel > .debug { quiet.logLevel = max(quiet.logLevel, .warning) }
        let application = Application(
            responder: HubResponder(root: root, files: files),
            server: .http1(
                configuration: .init(
                    idleTimeout: .seconds(Int64(Self.idleSeconds)),
                    httpDecoderConfiguration: .init(
                        maxHeaderFieldSize: Self.maxHeaderBytes, maxHeaderListSize: Self.maxHeaderBytes, maxHeaderFieldCount: 100))),
            configuration: ApplicationConfiguration(
                address: .hostname(host, port: port), serverName: nil, backlog: Self.backlog, reuseAddress: true),
            onServerRunning: { [host, port, onListening] channel in
                onListening(channel.localAddress?.ipAddress ?? host, channel.localAddress?.port ?? port)
            },
            logger: quiet)
        do {
            try await GracefulService(application, grace: Self.shutdownSeconds, logger: quiet).run()
        } catch let error as IOError {
            throw HubServerError("cannot listen on \(host):\(port): \(String(cString: strerror(error.errnoCode)))")
        } catch {
            throw HubServerError("cannot serve on \(host):\(port): \(error)")
        }
    }
}
