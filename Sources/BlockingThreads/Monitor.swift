internal import Glibc

/// A mutex with a condition to wait on: Swift's own `Mutex` has none.
final class Monitor: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

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

    func withLock<R>(_ body: () -> R) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    /// Within `withLock` only, which others may hold meanwhile. May return without cause.
    func wait() { pthread_cond_wait(condition, mutex) }
    /// Wakes one who waits.
    func signal() { pthread_cond_signal(condition) }
    /// Wakes all who wait.
    func broadcast() { pthread_cond_broadcast(condition) }
}
