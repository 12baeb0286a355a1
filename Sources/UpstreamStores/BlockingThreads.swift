internal import Glibc
internal import Synchronization

/// Starts a detached thread that takes no signals: those belong to the main thread, and SIGPIPE to nobody.
func startThread(_ body: @escaping @Sendable () -> Void) {
    final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    let box = Unmanaged.passRetained(Box(body))
    let result = pthread_create(
        &thread, nil,
        { argument in
            var all = sigset_t()
            sigfillset(&all)
            pthread_sigmask(SIG_BLOCK, &all, nil)
            guard let argument else { return nil }
            Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body()
            return nil
        }, box.toOpaque())
    precondition(result == 0, "no thread can be started: \(String(cString: strerror(result)))")
    pthread_detach(thread)
}

/// A few threads for blocking file calls, so that they never hold the cooperative pool.
final class BlockingThreads: Sendable {
    /// Jobs that wait for a thread; more are refused.
    static let maxWaiting = 4_096

    private final class Shared: @unchecked Sendable {
        let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        var jobs: [@Sendable () -> Void] = []
        var stopping = false

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

        func work() {
            while true {
                pthread_mutex_lock(mutex)
                while jobs.isEmpty, !stopping { pthread_cond_wait(condition, mutex) }
                // What was accepted is done before the end.
                guard !jobs.isEmpty else {
                    pthread_mutex_unlock(mutex)
                    return
                }
                let job = jobs.removeFirst()
                pthread_mutex_unlock(mutex)
                job()
            }
        }
    }

    private let shared = Shared()

    init(count: Int) {
        for _ in 0..<max(1, count) {
            startThread { [shared] in shared.work() }
        }
    }

    deinit {
        pthread_mutex_lock(shared.mutex)
        shared.stopping = true
        pthread_cond_broadcast(shared.condition)
        pthread_mutex_unlock(shared.mutex)
    }

    /// Runs `body` on one of the threads; `nil` when too many jobs wait.
    func run<T: Sendable>(_ body: @escaping @Sendable () -> T) async -> T? {
        await withCheckedContinuation { (continuation: CheckedContinuation<T?, Never>) in
            let job: @Sendable () -> Void = { continuation.resume(returning: body()) }
            pthread_mutex_lock(shared.mutex)
            let accepted = shared.jobs.count < Self.maxWaiting
            if accepted {
                shared.jobs.append(job)
                pthread_cond_signal(shared.condition)
            }
            pthread_mutex_unlock(shared.mutex)
            if !accepted { continuation.resume(returning: nil) }
        }
    }
}
