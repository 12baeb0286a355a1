internal import BlockingThreads
internal import ChunkModel
internal import Synchronization

/// Work on blocks, the most urgent first: a read does not wait behind what is decoded ahead of another.
///
/// As long as there are requests and read-ahead, which bound themselves.
final class DecodeQueue: Sendable {
    let threads: BlockingThreads
    private let waiting = Mutex<[FetchPriority: [@Sendable () -> Void]]>([:])

    init(threads: BlockingThreads) { self.threads = threads }

    func push(_ priority: FetchPriority, _ job: @escaping @Sendable () -> Void) {
        waiting.withLock { $0[priority, default: []].append(job) }
        threads.start { [self] in next()?() }
    }

    private func next() -> (@Sendable () -> Void)? {
        waiting.withLock { waiting in
            for priority in FetchPriority.allCases.reversed() where waiting[priority]?.isEmpty == false {
                return waiting[priority]!.removeFirst()
            }
            return nil
        }
    }
}
