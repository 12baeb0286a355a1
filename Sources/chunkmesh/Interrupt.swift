import Glibc
import Synchronization

/// The user pressed Ctrl-C, and what had been begun was cleaned up.
struct Interrupted: Error {}

/// SIGINT and SIGTERM: end the program at once with status 130, unless a command has said that it cleans up first.
enum Interrupt {
    private static let requested = Atomic(false)
    private static let cleansUp = Atomic(false)

    static func install() {
        for number in [SIGINT, SIGTERM] {
            signal(number) { _ in
                // The second one does not wait.
                if !Interrupt.cleansUp.load(ordering: .relaxed) || Interrupt.requested.exchange(true, ordering: .relaxed) { _exit(130) }
            }
        }
    }

    /// From now on the command looks at `isRequested` itself.
    static func cleanUpFirst() { cleansUp.store(true, ordering: .relaxed) }

    static var isRequested: Bool { requested.load(ordering: .relaxed) }

    /// - Throws: `Interrupted` once it was requested.
    static func check() throws { if isRequested { throw Interrupted() } }

    /// Runs `body`; Ctrl-C cancels it, and is thrown once it has ended.
    static func cancelling<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) async throws -> R {
        cleanUpFirst()
        let task = Task { try await body() }
        let watch = Task {
            while !isRequested { try await Task.sleep(for: .milliseconds(50)) }
            task.cancel()
        }
        defer { watch.cancel() }
        do {
            let result = try await task.value
            try check()
            return result
        } catch {
            try check()
            throw error
        }
    }
}
