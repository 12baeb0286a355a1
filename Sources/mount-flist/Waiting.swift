import Glibc
import Synchronization

/// Waits on the main thread, which runs no tasks, for what a task does.
enum Waiting {
    private final class Box<R: Sendable>: Sendable {
        let result = Mutex<Result<R, any Error>?>(nil)
    }

    private struct Semaphore: @unchecked Sendable { let pointer: UnsafeMutablePointer<sem_t> }

    static func result<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) throws -> R {
        let done = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
        sem_init(done, 0, 0)
        defer {
            sem_destroy(done)
            done.deallocate()
        }
        let semaphore = Semaphore(pointer: done)
        let box = Box<R>()
        Task.detached {
            let result: Result<R, any Error>
            do { result = .success(try await body()) } catch { result = .failure(error) }
            box.result.withLock { $0 = result }
            sem_post(semaphore.pointer)
        }
        while sem_wait(done) != 0 {}
        return try box.result.withLock { $0! }.get()
    }
}
