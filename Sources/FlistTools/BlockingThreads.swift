internal import Glibc
internal import Synchronization

/// A few threads for work that blocks (files, SQLite, hashing), so that none of it runs on the cooperative pool.
///
/// Jobs wait in a queue that is as long as there are tasks awaiting one: callers bound themselves. The threads end when the
/// last reference goes.
final class BlockingThreads: Sendable {
    private final class Queue: @unchecked Sendable {
        // Used under the mutex only.
        var jobs: [@Sendable () -> Void] = []
        var head = 0
        var closed = false
        let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

        init() {
            pthread_mutex_init(mutex, nil)
            pthread_cond_init(condition, nil)
        }

        deinit {
            pthread_cond_destroy(condition)
            pthread_mutex_destroy(mutex)
            condition.deallocate()
            mutex.deallocate()
        }

        func push(_ job: @escaping @Sendable () -> Void) {
            pthread_mutex_lock(mutex)
            jobs.append(job)
            pthread_cond_signal(condition)
            pthread_mutex_unlock(mutex)
        }

        func close() {
            pthread_mutex_lock(mutex)
            closed = true
            pthread_cond_broadcast(condition)
            pthread_mutex_unlock(mutex)
        }

        /// Runs jobs until the queue is closed and empty.
        func work() {
            while true {
                pthread_mutex_lock(mutex)
                while head == jobs.count, !closed { pthread_cond_wait(condition, mutex) }
                guard head < jobs.count else {
                    pthread_mutex_unlock(mutex)
                    return
                }
                let job = jobs[head]
                head += 1
                if head == jobs.count || head > 1024 {
                    jobs.removeFirst(head)
                    head = 0
                }
                pthread_mutex_unlock(mutex)
                job()
            }
        }
    }

    private let queue = Queue()
    let count: Int

    /// - Parameter count: threads; when the system grants fewer, those work alone.
    init(count: Int) throws {
        var started = 0
        for _ in 0..<max(1, count) {
            let box = Unmanaged.passRetained(queue)
            var thread = pthread_t()
            let result = pthread_create(
                &thread, nil,
                { argument in
                    Unmanaged<Queue>.fromOpaque(argument!).takeRetainedValue().work()
                    return nil
                }, box.toOpaque())
            guard result == 0 else {
                box.release()
                break
            }
            pthread_detach(thread)
            started += 1
        }
        guard started > 0 else { throw ToolError("no thread could be started") }
        self.count = started
    }

    deinit { queue.close() }

    /// Queues `job` and returns.
    func start(_ job: @escaping @Sendable () -> Void) { queue.push(job) }

    /// Runs `body` on one of the threads.
    func run<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
        try await withCheckedThrowingContinuation { continuation in
            queue.push { continuation.resume(with: Result(catching: body)) }
        }
    }

    /// Threads that suit the machine.
    static var machineThreads: Int { max(1, min(64, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))) }
}

/// A failure of one of the tools; `message` is one clear line.
public struct ToolError: Error, Hashable, Sendable, CustomStringConvertible {
    public let message: String
    public init(_ message: String) { self.message = message }
    public var description: String { message }

    /// What the last system call said about `what`.
    static func system(_ what: String, code: Int32 = errno) -> ToolError { ToolError("\(what): \(String(cString: strerror(code)))") }
}
