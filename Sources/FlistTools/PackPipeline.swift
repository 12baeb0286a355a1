internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
internal import Glibc
internal import Synchronization

/// Encodes blocks on several threads, stores them, and gives the results back in the order in which the blocks came.
///
/// Sinks that may be called directly are called by the threads that encode; for the others a task stores each chunk.
final class PackPipeline {
    /// Bytes of blocks under way; the reader waits for the oldest beyond them. Encoding holds a second and a third copy for each
    /// thread.
    static let bytesInFlight = 32 << 20
    /// The same for stores that are called directly: they need no more than keeps the threads busy.
    static let blocksPerThread = 6
    /// Chunks that wait for stores that are not called directly; further ones wait for one of them.
    static let uploadsInFlight = 32
    /// Small blocks go from thread to thread together, up to so many bytes and blocks.
    static let batchBytes = 128 << 10
    static let batchItems = 64
    /// What an item under way costs beside its plain bytes: its task, and a small chunk.
    static let itemBytes = 8 << 10
    /// While nothing is finished, `check` is called this often.
    private static let checkNanoseconds = 100_000_000

    /// What became of one item.
    enum Outcome: Sendable {
        /// `stores`: how many did not have it before.
        case stored(BlockRef, bytes: Int, stores: Int)
        /// Was said to be in the stores, and is not.
        case absent
        /// A mark that came by.
        case mark
    }

    enum Work: Sendable {
        case encode(Range<Int>)
        case known(BlockRef)
        case mark
    }

    struct Item: Sendable {
        let ino: Int64
        let work: Work
        /// Given back with the outcome.
        var note: PackJournal.Key?
    }

    /// Items that travel together: filled by workers, awaited by the reader.
    private final class Batch: @unchecked Sendable {
        let items: [Item]
        let plain: Mutex<ChunkBuffer?>
        let cost: Int
        private let results: Mutex<(outcomes: [Result<Outcome, any Error>?], left: Int)>
        private let ready = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

        init(_ items: [Item], plain: ChunkBuffer?) {
            self.items = items
            self.plain = Mutex(plain)
            cost = (plain?.count ?? 0) + items.count * PackPipeline.itemBytes
            results = Mutex((Array(repeating: nil, count: items.count), items.count))
            sem_init(ready, 0, 0)
        }

        deinit {
            sem_destroy(ready)
            ready.deallocate()
        }

        func finish(_ index: Int, _ result: Result<Outcome, any Error>) {
            let isLast = results.withLock { state in
                state.outcomes[index] = result
                state.left -= 1
                return state.left == 0
            }
            if isLast { sem_post(ready) }
        }

        var isFinished: Bool { results.withLock { $0.left == 0 } }

        func wait(check: () throws -> Void) throws -> [Result<Outcome, any Error>?] {
            while true {
                var end = timespec()
                clock_gettime(CLOCK_REALTIME, &end)
                end.tv_nsec += PackPipeline.checkNanoseconds
                if end.tv_nsec >= 1_000_000_000 {
                    end.tv_sec += 1
                    end.tv_nsec -= 1_000_000_000
                }
                if sem_timedwait(ready, &end) == 0 {
                    // For whoever looks again.
                    sem_post(ready)
                    return results.withLock { $0.outcomes }
                }
                if errno == ETIMEDOUT { try check() }
            }
        }
    }

    /// What the workers share.
    private final class Shared: Sendable {
        let stores: [PackStore]
        let coding: BlockCoding
        let pool: ChunkBufferPool
        let slots = UploadSlots(PackPipeline.uploadsInFlight)
        /// Chunks that somebody stores at this moment: another one with the same content leaves it to that one. When storing fails, so
        /// does the whole run.
        let storing = Mutex<Set<ChunkID>>([])
        let uploads = Mutex<(next: Int, tasks: [Int: Task<Void, Never>])>((0, [:]))
        let isOver = Atomic(false)

        init(stores: [PackStore], coding: BlockCoding, pool: ChunkBufferPool) {
            (self.stores, self.coding, self.pool) = (stores, coding, pool)
        }
    }

    private let shared: Shared
    private let threads: BlockingThreads
    private let limit: Int
    private var batches: [Batch] = []
    private var head = 0
    private var cost = 0
    /// An item failed: what comes after it would be given back without it.
    private var hasFailed = false
    private var filling: (items: [Item], plain: ChunkBuffer?) = ([], nil)
    let pool: ChunkBufferPool
    /// Called now and then while the reader waits; what it throws ends the run.
    var check: () throws -> Void = {}
    /// Called on the reader's thread with each finished item, in order.
    private let deliver: (Item, Outcome) throws -> Void

    init(workers: Int, stores: [PackStore], coding: BlockCoding, deliver: @escaping (Item, Outcome) throws -> Void) {
        threads = BlockingThreads(count: workers)
        let allDirect = stores.allSatisfy { $0.sink is any BlockingChunkSink }
        limit = allDirect ? min(Self.bytesInFlight, threads.count * Self.blocksPerThread * ChunkLimits.blockBytes) : Self.bytesInFlight
        pool = ChunkBufferPool(keep: limit / ChunkLimits.blockBytes)
        shared = Shared(stores: stores, coding: coding, pool: pool)
        self.deliver = deliver
    }

    deinit { cancel() }

    /// Takes a block of the file `ino`; waits for the oldest ones when enough are under way.
    func add(_ plain: ChunkBuffer, of ino: Int64) throws {
        if plain.count > Self.batchBytes / 2 {
            try send()
            filling = ([Item(ino: ino, work: .encode(0..<plain.count))], plain)
            return try send()
        }
        try plain.withBytes { try add($0, of: ino) }
    }

    /// The same for bytes that are copied.
    func add(_ bytes: UnsafeRawBufferPointer, of ino: Int64) throws {
        if (filling.plain?.count ?? 0) + bytes.count > Self.batchBytes || filling.items.count >= Self.batchItems { try send() }
        let buffer = filling.plain ?? pool.take(capacity: max(Self.batchBytes, bytes.count))
        filling.plain = buffer
        let start = buffer.count
        UnsafeMutableRawBufferPointer(start: buffer.base + start, count: bytes.count).copyMemory(from: bytes)
        buffer.count += bytes.count
        filling.items.append(Item(ino: ino, work: .encode(start..<buffer.count)))
    }

    /// Takes a block that is said to be in the stores, or (`ref` is `nil`) a mark that only comes back in its place.
    func add(_ ref: BlockRef?, of ino: Int64, note: PackJournal.Key? = nil) throws {
        if filling.items.count >= Self.batchItems { try send() }
        filling.items.append(Item(ino: ino, work: ref.map { .known($0) } ?? .mark, note: note))
    }

    /// Waits for all that is under way.
    func drain() throws {
        try send()
        while head < batches.count { try deliverOldest() }
    }

    /// Nothing further is begun.
    func cancel() {
        shared.isOver.store(true, ordering: .relaxed)
        for task in shared.uploads.withLock({ Array($0.tasks.values) }) { task.cancel() }
    }

    /// Ends: what is under way ends too before this returns, so that nothing is stored afterwards.
    func stop() {
        cancel()
        for batch in batches[head...] { _ = try? batch.wait {} }
    }

    private func send() throws {
        guard !filling.items.isEmpty else { return }
        let batch = Batch(filling.items, plain: filling.plain)
        filling = ([], nil)
        // What is finished is known to the journal at once.
        while head < batches.count, batches[head].isFinished || cost + batch.cost > limit { try deliverOldest() }
        cost += batch.cost
        batches.append(batch)
        threads.start { [shared] in Self.work(batch, shared) }
    }

    /// Gives back what is finished, without waiting, up to the first item that is not or that failed.
    func deliverFinished() {
        do { while !hasFailed, head < batches.count, batches[head].isFinished { try deliverOldest() } } catch {}
    }

    private func deliverOldest() throws {
        let batch = batches[head]
        let outcomes = try batch.wait(check: check)
        head += 1
        cost -= batch.cost
        if head > 256 {
            batches.removeFirst(head)
            head = 0
        }
        do {
            for (item, outcome) in zip(batch.items, outcomes) { if let outcome { try deliver(item, outcome.get()) } }
        } catch {
            hasFailed = true
            throw error
        }
    }

    // MARK: On the workers' threads

    private static func work(_ batch: Batch, _ shared: Shared) {
        let plain = batch.plain.withLock { plain in
            defer { plain = nil }
            return plain
        }
        for (index, item) in batch.items.enumerated() {
            do {
                guard !shared.isOver.load(ordering: .relaxed) else { throw CancellationError() }
                switch item.work {
                case .mark: batch.finish(index, .success(.mark))
                case .encode(let range):
                    guard let plain else { throw CancellationError() }
                    let block = try plain.withBytes { bytes in
                        try BlockCodec.encode(UnsafeRawBufferPointer(rebasing: bytes[range]), as: shared.coding, pool: shared.pool)
                    }
                    try store(block, batch, index, shared)
                case .known(let ref): try look(ref, batch, index, shared)
                }
            } catch {
                batch.finish(index, .failure(error))
            }
        }
    }

    private static func store(_ block: EncodedBlock, _ batch: Batch, _ index: Int, _ shared: Shared) throws {
        let (ref, chunk) = (block.ref, block.chunk)
        let isFirst = shared.storing.withLock { $0.insert(ref.id).inserted }
        guard isFirst else { return batch.finish(index, .success(.stored(ref, bytes: chunk.byteCount, stores: 0))) }
        var count = 0
        var others: [any ChunkSink] = []
        do {
            for store in shared.stores where store.range.contains(ref.id.firstByte) {
                guard let sink = store.sink as? any BlockingChunkSink else {
                    others.append(store.sink)
                    continue
                }
                guard try !sink.containsNow(ref.id) else { continue }
                try sink.storeNow(chunk)
                count += 1
            }
        } catch {
            shared.storing.withLock { _ = $0.remove(ref.id) }
            throw error
        }
        let stored = count
        if others.isEmpty {
            shared.storing.withLock { _ = $0.remove(ref.id) }
            return batch.finish(index, .success(.stored(ref, bytes: chunk.byteCount, stores: stored)))
        }
        let kept = compact(chunk)
        upload(shared) { [others] in
            let result: Result<Outcome, any Error>
            do {
                var stored = stored
                for sink in others {
                    guard !shared.isOver.load(ordering: .relaxed) else { throw CancellationError() }
                    guard try await !sink.contains(ref.id) else { continue }
                    guard !shared.isOver.load(ordering: .relaxed) else { throw CancellationError() }
                    try await sink.store(kept)
                    stored += 1
                }
                result = .success(.stored(ref, bytes: kept.byteCount, stores: stored))
            } catch {
                result = .failure(error)
            }
            shared.storing.withLock { _ = $0.remove(ref.id) }
            batch.finish(index, result)
        }
    }

    /// The same chunk in memory of its own size, so that small ones that wait don't hold large buffers.
    private static func compact(_ chunk: Chunk) -> Chunk {
        guard chunk.byteCount <= itemBytes else { return chunk }
        return Chunk(computed: chunk.id, of: chunk.buffer.withBytes { ChunkBuffer(copying: $0) })
    }

    private static func look(_ ref: BlockRef, _ batch: Batch, _ index: Int, _ shared: Shared) throws {
        var others: [any ChunkSink] = []
        for store in shared.stores where store.range.contains(ref.id.firstByte) {
            guard let sink = store.sink as? any BlockingChunkSink else {
                others.append(store.sink)
                continue
            }
            guard try sink.containsNow(ref.id) else { return batch.finish(index, .success(.absent)) }
        }
        if others.isEmpty { return batch.finish(index, .success(.stored(ref, bytes: 0, stores: 0))) }
        upload(shared) { [others] in
            let result: Result<Outcome, any Error>
            do {
                var isThere = true
                for sink in others where isThere {
                    guard !shared.isOver.load(ordering: .relaxed) else { throw CancellationError() }
                    isThere = try await sink.contains(ref.id)
                }
                result = .success(isThere ? .stored(ref, bytes: 0, stores: 0) : .absent)
            } catch {
                result = .failure(error)
            }
            batch.finish(index, result)
        }
    }

    /// Runs `body` in a task once one of the places is free.
    private static func upload(_ shared: Shared, _ body: @escaping @Sendable () async -> Void) {
        shared.uploads.withLock { state in
            state.next += 1
            let number = state.next
            state.tasks[number] = Task {
                await shared.slots.take()
                await body()
                shared.slots.giveBack()
                shared.uploads.withLock { _ = $0.tasks.removeValue(forKey: number) }
            }
        }
    }
}

/// A counted number of places that tasks take and give back.
final class UploadSlots: Sendable {
    private let state: Mutex<(free: Int, waiting: [CheckedContinuation<Void, Never>])>

    init(_ count: Int) { state = Mutex((count, [])) }

    func take() async {
        await withCheckedContinuation { continuation in
            let isFree = state.withLock { state in
                if state.free > 0 {
                    state.free -= 1
                    return true
                }
                state.waiting.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
    }

    func giveBack() {
        let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
            if state.waiting.isEmpty {
                state.free += 1
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
    }
}
