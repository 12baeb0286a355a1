import ChunkModel
import Foundation
import Testing

@testable import UpstreamStores

@Suite struct ChunkPartsTests {
    private let pool = ChunkBufferPool()
    /// Every server is far enough away.
    private let curl = CurlMulti(servers: ServerFacts(leastRoundTrip: 0))

    private func store(_ url: String, attempts: Int = 1) throws -> HTTPUpstream {
        try HTTPUpstream(url: url, curl: curl, retry: RetryLimits(attempts: attempts, firstWait: .milliseconds(5)))
    }

    private func read(_ store: HTTPUpstream, _ id: ChunkID, isWhole: Bool = true, _ priority: FetchPriority = .foreground) async throws
        -> Bool
    {
        try await FetchUrgency.$current.withValue(FetchUrgency(priority, isWholeBlock: isWhole)) {
            Chunk(verifying: try await store.fetch(id, priority: priority, pool: pool), as: id) != nil
        }
    }

    @Test(arguments: [524_331, 524_288, 436_906, 436_905, 436_904, 87_382, 87_381, 87_380, 1, ChunkBufferPool.commonBytes])
    func `a chunk comes in parts, whatever its length`(size: Int) async throws {
        let hub = try await FlakyHub.start()
        let store = try store(hub.url("parts"))
        let ids = try (0..<2).map { try TestFiles.store(TestFiles.content(size, seed: UInt64($0)), below: hub.directory) }
        // The first answer tells that there are parts.
        #expect(try await read(store, ids[0]))
        #expect(try await hub.stats().requests == 1)
        #expect(try await read(store, ids[1]))
        #expect(try await hub.stats().requests == 1 + ChunkParts.count)
        let counted = curl.counters.snapshot
        #expect(counted.bodyBytes == 2 * size)
        #expect(counted.chunks == 2 && counted.failureCount == 0)
    }

    @Test func `only a reader's whole block on an idle line is asked for in parts`() async throws {
        let hub = try await FlakyHub.start()
        let store = try store(hub.url("parts"))
        let ids = try (0..<5).map { try TestFiles.store(TestFiles.content(200_000, seed: UInt64($0)), below: hub.directory) }
        #expect(try await read(store, ids[0]))
        #expect(try await read(store, ids[1], isWhole: false))
        #expect(try await read(store, ids[2], .prefetch))
        // Something else is under way, for as long as it takes.
        let silent = try self.store(hub.url("silent"))
        let other = Task { try await read(silent, ids[3], .prefetch) }
        #expect(await eventually { !curl.isIdle })
        #expect(try await read(store, ids[4]))
        other.cancel()
        _ = await other.result
        #expect(try await hub.stats().requests == 5)
        let near = CurlMulti(servers: ServerFacts())
        let nearby = try HTTPUpstream(url: hub.url("parts"), curl: near)
        for id in ids { #expect(try await read(nearby, id)) }
        #expect(try await hub.stats().requests == 10)
    }

    @Test func `a hub that knows no parts is asked as before`() async throws {
        let hub = try await FlakyHub.start()
        let store = try store(hub.url("plain"))
        for seed in 0..<4 {
            #expect(try await read(store, try TestFiles.store(TestFiles.content(300_000, seed: UInt64(seed)), below: hub.directory)))
        }
        #expect(try await hub.stats().requests == 4)
        #expect(curl.counters.snapshot.bodyBytes == 1_200_000)
    }

    @Test(arguments: ["ignored", "shifted"])
    func `a hub that sends other parts than it is asked for is asked for whole chunks from then on`(fault: String) async throws {
        let hub = try await FlakyHub.start()
        let store = try store(hub.url("parts-\(fault)"))
        let ids = try (0..<4).map { try TestFiles.store(TestFiles.content(500_000, seed: UInt64($0)), below: hub.directory) }
        for id in ids { #expect(try await read(store, id)) }
        // One, some parts and one, and one each.
        #expect(try await hub.stats().requests <= 4 + ChunkParts.count)
    }

    @Test func `a part that fails fails the attempt, and the next one brings the chunk`() async throws {
        let hub = try await FlakyHub.start()
        let store = try store(hub.url("parts-fails"), attempts: 3)
        let ids = try (0..<2).map { try TestFiles.store(TestFiles.content(500_000, seed: UInt64($0)), below: hub.directory) }
        for id in ids { #expect(try await read(store, id)) }
        #expect(curl.counters.snapshot.retries == 1)
        let missing = try #require(ChunkID(hex: String(repeating: "ab", count: 32)))
        await #expect(throws: UpstreamError.missing) { try await read(store, missing) }
    }

    @Test func `parts that do not make a chunk are none`() throws {
        let total = 300_000
        func answers(_ change: (inout [ChunkParts.Answer]) -> Void) -> Int? {
            var answers = (0..<ChunkParts.count).map { part -> ChunkParts.Answer in
                let first = ChunkParts.start(of: part)
                guard first < total else { return ChunkParts.Answer(status: 416, range: nil, received: 0) }
                let last = min(total, first + ChunkParts.bytes) - 1
                return ChunkParts.Answer(
                    status: 206, range: ChunkParts.ContentRange("bytes \(first)-\(last)/\(total)"), received: last + 1 - first)
            }
            change(&answers)
            return ChunkParts.length(answers)
        }
        let lengths = [
            answers { _ in }, answers { $0[1].received -= 1 }, answers { $0[1].range = nil }, answers { $0[1].status = 200 },
            answers { $0[2].status = 416 }, answers { $0[4].status = 206 }, answers { $0[1].range?.total += 1 },
            answers { $0.removeLast() },
        ]
        #expect(lengths == [total] + Array(repeating: nil, count: 7))
        for text in ["bytes 0-9", "bytes */10", "bytes 5-4/10", "bytes 0-10/10", "bytes 0-99999999999999999999/1", "0-1/2", ""] {
            #expect(ChunkParts.ContentRange(text) == nil, "\(text)")
        }
    }
}

@Suite struct AheadTests {
    private let pool = ChunkBufferPool()

    @Test func `what is read ahead goes on beside readers as far as the budget goes`() {
        func admitted(_ sizes: [Int?], isWholeBlock: Bool) -> Int {
            var budget = AheadBudget()
            return sizes.count { budget.admits($0, isWholeBlock: isWholeBlock) }
        }
        #expect(admitted([10 << 20, 1], isWholeBlock: true) == 1)
        let unknown = [Int?](repeating: nil, count: 100)
        #expect(admitted(unknown, isWholeBlock: false) == AheadBudget.bytes / AheadBudget.unknown)
        #expect(admitted(unknown, isWholeBlock: true) == 2)
    }

    @Test func `readers of this node hold prefetches back, and not what is read ahead for them`() async throws {
        let hub = try await FlakyHub.start()
        let rate = ReceiveRate()
        let store = try HTTPUpstream(url: hub.url("plain"), curl: CurlMulti(rate: rate))
        let ids = try (0..<3).map { try TestFiles.store(TestFiles.content(70_000, seed: UInt64($0)), below: hub.directory) }
        rate.hold(.prefetches)
        let prefetch = Task { try await store.fetch(ids[0], priority: .prefetch, pool: pool).count }
        #expect(try await store.fetch(ids[1], priority: .readAhead, pool: pool).count == 70_000)
        rate.hold(.all)
        let ahead = Task { try await store.fetch(ids[2], priority: .readAhead, pool: pool).count }
        #expect(try await store.fetch(ids[1], priority: .foreground, pool: pool).count == 70_000)
        #expect(try await hub.stats().requests == 2)
        rate.hold(.nobody)
        #expect(try await prefetch.value == 70_000)
        #expect(try await ahead.value == 70_000)
    }

    /// They did: a reader stood behind sixteen prefetches that stood still for him.
    @Test func `a reader does not wait for the place of a prefetch that is held back for him`() async throws {
        let hub = try await FlakyHub.start()
        let rate = ReceiveRate()
        let curl = CurlMulti(rate: rate)
        let store = try HTTPUpstream(url: hub.url("plain"), curl: curl)
        let ids = try (0...UpstreamLimits.defaultConcurrency).map {
            try TestFiles.store(TestFiles.content(1_000, seed: UInt64($0)), below: hub.directory)
        }
        rate.hold(.prefetches)
        let held = ids.dropLast().map { id in Task { try await store.fetch(id, priority: .prefetch, pool: pool).count } }
        #expect(await eventually { store.gate.report.active == UpstreamLimits.defaultConcurrency })
        #expect(try await store.fetch(ids[ids.count - 1], priority: .foreground, pool: pool).count == 1_000)
        rate.hold(.nobody)
        for task in held { #expect(try await task.value == 1_000) }
    }
}
