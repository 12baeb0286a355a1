internal import ChunkModel
internal import NIOCore
internal import NIOPosix

/// Sends commands to one store and awaits their replies. Connections are opened when there is something to send, and closed with
/// this object; then commands under way fail.
final class ZDBClient: Sendable {
    private let pool: ZDBPool

    init(
        address: ZDBAddress, transfer: TransferLimits, rate: ReceiveRate, counters: UpstreamCounters,
        limits: ZDBPool.Limits = ZDBPool.Limits()
    ) {
        pool = ZDBPool(
            address: address, transfer: transfer, limits: limits, rate: rate, counters: counters,
            loop: MultiThreadedEventLoopGroup.singleton.next())
    }

    deinit { pool.loop.execute { [pool] in pool.shutdown() } }

    /// Ends early when the task is cancelled.
    ///
    /// - Parameters:
    ///   - replyLimit: bytes that the values of the reply may have; longer ones cost the connection.
    ///   - buffers: where a chunk is received into.
    func perform(
        _ request: RESPRequest, priority: FetchPriority, replyLimit: Int, buffers: ChunkBufferPool
    ) async throws(ZDBFailure) -> RESPReply {
        let command = ZDBCommand(request, priority: priority, replyLimit: replyLimit, buffers: buffers)
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                pool.loop.execute { [pool] in
                    command.continuation = continuation
                    pool.submit(command)
                }
            }
        } onCancel: {
            // Where this comes first, `submit` sees it.
            command.cancel()
            pool.loop.execute { [pool] in pool.cancel(command) }
        }
        if case .failure(let failure) = result, !failure.isCancellation { pool.counters.add(failure: failure.kind) }
        return try result.get()
    }
}
