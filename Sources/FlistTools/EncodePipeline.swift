internal import BlockingThreads
internal import BlockCodec
internal import ChunkModel
internal import Flist
internal import Glibc
internal import Synchronization

/// Encodes and stores blocks on several threads, and gives the results back in the order in which the blocks came.
final class EncodePipeline {
    /// Blocks in flight for each thread: enough that none waits for the reader. About 1.8 MB each while encoded.
    private static let blocksPerThread = 4

    struct Done: Sendable {
        let ref: BlockRef
        let plainBytes: Int
        let storedBytes: Int
        /// How many stores did not have it.
        let stored: Int
    }

    /// One block under way: filled by a worker, awaited by the reader.
    private final class Job: @unchecked Sendable {
        let ino: Int64
        private var result: Result<Done, any Error>?
        private let ready = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

        init(ino: Int64) {
            self.ino = ino
            sem_init(ready, 0, 0)
        }

        deinit {
            sem_destroy(ready)
            ready.deallocate()
        }

        func finish(_ result: Result<Done, any Error>) {
            self.result = result
            sem_post(ready)
        }

        func wait() throws -> Done {
            while sem_wait(ready) != 0 {}
            return try result!.get()
        }
    }

    /// Chunks that a worker stores at this moment: another one with the same content leaves it to that one. When storing fails,
    /// so does the whole run.
    private final class Storing: Sendable {
        let ids = Mutex<Set<ChunkID>>([])
    }

    private let storing = Storing()
    private let threads: BlockingThreads
    private let stores: [PackStore]
    private let limit: Int
    private var jobs: [Job] = []
    private var head = 0
    let pool: ChunkBufferPool
    /// Called on the reader's thread with each finished block, in order.
    private let deliver: (Int64, Done) throws -> Void

    init(workers: Int, stores: [PackStore], deliver: @escaping (Int64, Done) throws -> Void) {
        threads = BlockingThreads(count: workers)
        limit = threads.count * Self.blocksPerThread
        pool = ChunkBufferPool(keep: 3 * limit)
        self.stores = stores
        self.deliver = deliver
    }

    /// Takes a block of the file `ino`; waits for the oldest one when enough are under way.
    func add(_ plain: ChunkBuffer, of ino: Int64) throws {
        while jobs.count - head >= limit { try deliverOldest() }
        let job = Job(ino: ino)
        jobs.append(job)
        threads.start { [stores, pool, storing] in
            job.finish(Result { try Self.encode(plain, stores: stores, pool: pool, storing: storing) })
        }
    }

    /// Waits for all that is under way.
    func drain() throws {
        while head < jobs.count { try deliverOldest() }
    }

    private func deliverOldest() throws {
        let job = jobs[head]
        head += 1
        if head > 256 {
            jobs.removeFirst(head)
            head = 0
        }
        try deliver(job.ino, try job.wait())
    }

    private static func encode(_ plain: ChunkBuffer, stores: [PackStore], pool: ChunkBufferPool, storing: Storing) throws -> Done {
        let block = try plain.withBytes { try BlockCodec.encode($0, pool: pool) }
        var stored = 0
        let first = storing.ids.withLock { $0.insert(block.id).inserted }
        defer { if first { storing.ids.withLock { _ = $0.remove(block.id) } } }
        guard first else {
            return Done(ref: block.ref, plainBytes: plain.count, storedBytes: block.stored.count, stored: 0)
        }
        for store in stores where store.range.contains(block.id.firstByte) {
            guard try !store.sink.contains(block.id) else { continue }
            try block.stored.withBytes { try store.sink.store(block.id, $0) }
            stored += 1
        }
        return Done(ref: block.ref, plainBytes: plain.count, storedBytes: block.stored.count, stored: stored)
    }
}
