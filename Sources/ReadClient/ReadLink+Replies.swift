internal import Glibc
internal import Synchronization

extension ReadLink {
    /// Waits for the answer; a cancelled task takes the request back.
    func reply(to request: Request, target: Target? = nil) async throws(ReadClientError) -> Reply {
        let id = Mutex<UInt32?>(nil)
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Result<Reply, ReadClientError>, Never>) in
                let sent = submit(request, target: target) { continuation.resume(returning: $0) }
                id.withLock { $0 = sent }
                if Task.isCancelled { cancel(sent) }
            }
        } onCancel: {
            if let id = id.withLock({ $0 }) { cancel(id) }
        }
        return try result.get()
    }

    /// The same for a thread that may block.
    func replyNow(to request: Request, target: Target? = nil) throws(ReadClientError) -> Reply {
        let latch = Latch<Result<Reply, ReadClientError>>()
        submit(request, target: target) { latch.set($0) }
        return try latch.wait().get()
    }
}

/// One value from another thread.
final class Latch<Value: Sendable>: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var value: Value?

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

    func set(_ new: Value) {
        pthread_mutex_lock(mutex)
        value = new
        pthread_cond_signal(condition)
        pthread_mutex_unlock(mutex)
    }

    func wait() -> Value {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let value { return value }
            pthread_cond_wait(condition, mutex)
        }
    }
}
