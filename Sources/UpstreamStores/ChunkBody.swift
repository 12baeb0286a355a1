internal import ChunkModel

/// Receives a chunk straight into a buffer of the pool.
final class ChunkBody: TransferSink, @unchecked Sendable {
    private let pool: ChunkBufferPool
    private var filling: ChunkBuffer?

    init(pool: ChunkBufferPool) { self.pool = pool }

    /// What was received; an empty buffer when there was no body.
    var buffer: ChunkBuffer { filling ?? pool.take() }

    func take(_ bytes: UnsafeRawBufferPointer, declared: Int?) throws(TransferFailure) {
        let target = try room(for: bytes.count, declared: declared)
        guard let source = bytes.baseAddress else { return }
        (target.base + target.count).copyMemory(from: source, byteCount: bytes.count)
        target.count += bytes.count
    }

    /// A buffer with space for `more` bytes. A body of undeclared length that outgrows the common size moves once to the largest.
    private func room(for more: Int, declared: Int?) throws(TransferFailure) -> ChunkBuffer {
        let held = filling?.count ?? 0
        let (needed, overflow) = held.addingReportingOverflow(more)
        guard !overflow, needed <= ChunkLimits.maxStoredBytes else {
            throw TransferFailure(
                kind: .tooLong, retryable: false, line: "sends more than the \(ChunkLimits.maxStoredBytes) bytes that a chunk may have")
        }
        if let filling, filling.capacity >= needed { return filling }
        let wanted = max(needed, min(declared ?? 0, ChunkLimits.maxStoredBytes))
        let capacity = wanted <= ChunkBufferPool.commonBytes ? ChunkBufferPool.commonBytes : ChunkLimits.maxStoredBytes
        let larger = pool.take(capacity: filling == nil ? max(wanted, 1) : capacity)
        if let filling {
            larger.base.copyMemory(from: filling.base, byteCount: filling.count)
            larger.count = filling.count
        }
        filling = larger
        return larger
    }
}
