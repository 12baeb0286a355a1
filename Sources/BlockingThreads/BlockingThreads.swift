internal import Glibc

/// A few threads for work that blocks (files, SQLite, hashing), so that none of it runs on the cooperative pool or an event loop.
///
/// Jobs wait in a queue that is as long as there are callers: they bound themselves. The threads take no signals, which belong to
/// the main thread. They end when the last reference goes, after what was queued is done.
public final class BlockingThreads: Sendable {
    private let queue = JobQueue()
    /// Threads that were granted.
    public let count: Int

    /// - Parameter count: threads; when the system grants fewer, those work alone. Traps when it grants none, since nothing could be
    ///   done then.
    public init(count: Int = BlockingThreads.machineThreads) {
        var started = 0
        for _ in 0..<max(1, count) where Self.startThread({ [queue] in queue.work() }) { started += 1 }
        precondition(started > 0, "the system grants no thread")
        self.count = started
    }

    deinit { queue.close() }

    /// Queues `job` and returns.
    public func start(_ job: @escaping @Sendable () -> Void) { queue.push(job) }

    /// Runs `body` on one of the threads.
    public func run<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
        try await withCheckedThrowingContinuation { continuation in
            queue.push { continuation.resume(with: Result(catching: body)) }
        }
    }

    /// Runs `body`, which cannot fail, on one of the threads.
    public func run<R: Sendable>(_ body: @escaping @Sendable () -> R) async -> R {
        await withCheckedContinuation { continuation in
            queue.push { continuation.resume(returning: body()) }
        }
    }

    /// Threads that suit the machine.
    public static var machineThreads: Int { max(1, min(64, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))) }

    /// Starts a detached thread that takes no signals.
    ///
    /// - Returns: `false` when the system grants none.
    public static func startThread(_ body: @escaping @Sendable () -> Void) -> Bool {
        final class Box {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        let box = Unmanaged.passRetained(Box(body))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                var all = sigset_t()
                sigfillset(&all)
                pthread_sigmask(SIG_BLOCK, &all, nil)
                Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().body()
                return nil
            }, box.toOpaque())
        guard result == 0 else {
            box.release()
            return false
        }
        pthread_detach(thread)
        return true
    }
}

/// First in, first out.
private final class JobQueue: @unchecked Sendable {
    private let monitor = Monitor()
    private var jobs: [@Sendable () -> Void] = []
    private var head = 0
    private var closed = false

    func push(_ job: @escaping @Sendable () -> Void) {
        monitor.withLock {
            jobs.append(job)
            monitor.signal()
        }
    }

    func close() {
        monitor.withLock {
            closed = true
            monitor.broadcast()
        }
    }

    /// Runs jobs until the queue is closed and empty.
    func work() {
        while let job = next() { job() }
    }

    private func next() -> (@Sendable () -> Void)? {
        monitor.withLock {
            while head == jobs.count {
                if closed { return nil }
                monitor.wait()
            }
            let job = jobs[head]
            jobs[head] = {}
            head += 1
            // Taking from the front of an array moves all that follows: done rarely.
            if head == jobs.count || head > 1024 {
                jobs.removeFirst(head)
                head = 0
            }
            return job
        }
    }
}
