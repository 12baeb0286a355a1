import Logging
import MeshNode
import NodeConfiguration
import ServiceLifecycle
import UnixSignals

/// SIGHUP: reads the configuration again and applies what can change while the node runs.
struct Reload: Service {
    let node: MeshNode
    let logger: Logger
    let load: @Sendable () throws -> Configuration

    func run() async throws {
        for await _ in await UnixSignalsSequence(trapping: .sighup).cancelOnGracefulShutdown() {
            do {
                let changes = try await node.reload(try load())
                logger.info(
                    "configuration read again", metadata: ["applied": "\(changes.applied)", "needs a restart": "\(changes.needRestart)"])
            } catch {
                // The node goes on with what it had.
                logger.error("configuration not applied", metadata: ["error": "\(error)"])
            }
        }
    }
}
