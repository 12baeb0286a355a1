import ArgumentParser
import HubServer
import Logging
import NodeConfiguration

struct Hub: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Serves chunks to sites.", subcommands: [Serve.self])

    struct Serve: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "A plain read-only HTTP hub over a dir store, for a site or a try-out.",
            discussion:
                "Serves the chunks of the store and the files that lie directly in DIR, such as flists. Put TLS and access control in front of it where it faces strangers."
        )

        @Argument(help: "Directory of the store.") var directory: String
        @Option(help: ArgumentHelp("Address and port; port 0 takes a free one.", valueName: "ADDR:PORT")) var listen = "127.0.0.1:8080"
        @Flag(help: "Log every request.") var verbose = false

        func validate() throws { if HostPort(listen) == nil { throw ValidationError("--listen takes ADDR:PORT, not \(listen)") } }

        func run() async throws {
            // The server ends gracefully on its own signals.
            LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
            var logger = Logger(label: "hub")
            logger.logLevel = verbose ? .debug : .notice
            let address = HostPort(listen)!
            let hub = HubServer(directory: directory, host: address.host, port: Int(address.port), logger: logger) { host, port in
                Terminal.error("hub listens on http://\(host.contains(":") ? "[\(host)]" : host):\(port)")
            }
            Interrupt.cleanUpFirst()
            let serving = Task { try await hub.run() }
            let watch = Task {
                while !Interrupt.isRequested { try await Task.sleep(for: .milliseconds(100)) }
                serving.cancel()
            }
            defer { watch.cancel() }
            try await serving.value
        }
    }
}
