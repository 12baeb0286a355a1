import BlockingThreads

/// Waits on the main thread, which runs no tasks, for what a task does.
enum Waiting {
    static func result<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) throws -> R {
        let latch = Latch<Result<R, any Error>>()
        Task.detached {
            do { latch.set(.success(try await body())) } catch { latch.set(.failure(error)) }
        }
        return try latch.wait().get()
    }
}
