internal import BlockingThreads
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
