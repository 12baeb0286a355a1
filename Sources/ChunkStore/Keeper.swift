internal import Glibc

/// The cache's own thread: every interval, or sooner when woken, it calls `work` until told to stop.
final class Keeper: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var isWoken = false
    private var isStopping = false
    private var thread = pthread_t()
    private var isStarted = false

    init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Starts the thread. `work` must not hold its owner strongly; when it returns `false` the thread ends.
    func start(every nanoseconds: UInt64, _ work: @escaping @Sendable () -> Bool) {
        final class Body {
            let run: () -> Void
            init(_ run: @escaping () -> Void) { self.run = run }
        }
        let body = Body { [self] in
            while wait(nanoseconds), work() {}
        }
        let raw = Unmanaged.passRetained(body).toOpaque()
        let result = pthread_create(
            &thread, nil,
            { raw in
                Unmanaged<Body>.fromOpaque(raw!).takeRetainedValue().run()
                return nil
            }, raw)
        if result == 0 { isStarted = true } else { Unmanaged<Body>.fromOpaque(raw).release() }
    }

    func wake() { signal { isWoken = true } }

    /// Asks the thread to end, and does not wait.
    func stop() { signal { isStopping = true } }

    /// Asks the thread to end and waits for the work at hand.
    func stopAndJoin() {
        stop()
        guard isStarted else { return }
        isStarted = false
        pthread_join(thread, nil)
    }

    /// For an owner that goes away without closing: nobody joins the thread.
    func abandon() {
        stop()
        guard isStarted else { return }
        isStarted = false
        pthread_detach(thread)
    }

    private func signal(_ change: () -> Void) {
        pthread_mutex_lock(mutex)
        change()
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    /// - Returns: `false` when the thread shall end.
    private func wait(_ nanoseconds: UInt64) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        let total = UInt64(deadline.tv_nsec) + nanoseconds
        deadline.tv_sec += Int(total / 1_000_000_000)
        deadline.tv_nsec = Int(total % 1_000_000_000)
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while !isWoken, !isStopping {
            if pthread_cond_timedwait(condition, mutex, &deadline) == ETIMEDOUT { break }
        }
        isWoken = false
        return !isStopping
    }
}
