package import Logging
package import ServiceLifecycle

/// An HTTP server that ends gracefully whichever way it is told to.
package struct GracefulService {
    private let group: ServiceGroup

    /// - Parameters:
    ///   - grace: seconds that transfers under way get to finish once the end is called for.
    package init(_ service: some Service, grace: Int, logger: Logger) {
        var configuration = ServiceGroupConfiguration(services: [service], logger: logger)
        configuration.maximumGracefulShutdownDuration = .seconds(grace)
        group = ServiceGroup(configuration: configuration)
    }

    /// Serves until the task is cancelled or the surrounding service group shuts down.
    ///
    /// - Throws: what the service does, except for cancellation.
    package func run() async throws {
        // A task of its own: cancelled amid accepting a connection, NIO's writer of that connection would trap. Cancellation
        // becomes a graceful end instead.
        let serving = Task { [group] in try await group.run() }
        do {
            try await withTaskCancellationOrGracefulShutdownHandler {
                try await serving.value
            } onCancelOrGracefulShutdown: { [group] in
                Task { await group.triggerGracefulShutdown() }
            }
        } catch is CancellationError {}
    }
}
