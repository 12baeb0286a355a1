internal import ChunkModel
internal import NIOCore
internal import Synchronization

/// One command on its way. Apart from `isCancelled`, touched on the pool's event loop alone once it was submitted.
final class ZDBCommand: @unchecked Sendable {
    let request: RESPRequest
    private let asked: FetchPriority
    private let urgency = FetchUrgency.current
    /// As it was asked for, or more urgent since.
    var priority: FetchPriority { max(asked, urgency?.priority ?? asked) }
    /// Bytes that the values of the reply may have.
    let replyLimit: Int
    /// Where a long value is received into.
    let buffers: ChunkBufferPool
    private let cancellation = Atomic<Bool>(false)

    // On the event loop:
    var deadline = NIODeadline.distantFuture
    /// Was taken back from a connection that died, to be sent over another one; that is done once.
    var wasMoved = false
    var continuation: CheckedContinuation<Result<RESPReply, ZDBFailure>, Never>?

    init(_ request: RESPRequest, priority: FetchPriority, replyLimit: Int, buffers: ChunkBufferPool) {
        (self.request, asked, self.replyLimit, self.buffers) = (request, priority, replyLimit, buffers)
    }

    var isCancelled: Bool { cancellation.load(ordering: .acquiring) }
    func cancel() { cancellation.store(true, ordering: .releasing) }

    /// Whether nobody waits for the reply any more: it is received and thrown away, since replies come in the order of the commands.
    var isAbandoned: Bool { continuation == nil }

    func finish(_ result: Result<RESPReply, ZDBFailure>) {
        let waiting = continuation
        continuation = nil
        waiting?.resume(returning: result)
    }
}
