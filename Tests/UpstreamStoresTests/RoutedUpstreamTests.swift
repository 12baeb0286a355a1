import ChunkModel
import Foundation
import Synchronization
import Testing

@testable import UpstreamStores

/// Answers from memory, as told, and remembers what it was asked.
private final class ScriptedStore: UpstreamStore {
    let label: String
    private let answers: @Sendable (Int) throws(UpstreamError) -> [UInt8]
    private let asked = Mutex(0)
    private let blamed = Mutex(0)

    init(_ label: String, _ answers: @escaping @Sendable (Int) throws(UpstreamError) -> [UInt8]) {
        (self.label, self.answers) = (label, answers)
    }

    var count: Int { asked.withLock { $0 } }
    var blame: Int { blamed.withLock { $0 } }

    func fetch(_ id: ChunkID, priority: FetchPriority, pool: ChunkBufferPool) async throws(UpstreamError) -> ChunkBuffer {
        let turn = asked.withLock { asked in
            asked += 1
            return asked
        }
        return ChunkBuffer(copying: try answers(turn))
    }

    func noteBadContent() { blamed.withLock { $0 += 1 } }
}

/// Takes chunks once it is open.
private final class SlowSink: ChunkSink {
    let label = "slow"
    let isOpen = Mutex(false)

    func contains(_ id: ChunkID) async throws -> Bool { false }
    func store(_ chunk: Chunk) async throws { _ = await eventually { isOpen.withLock { $0 } } }
}

@Suite struct RoutedUpstreamTests {
    let pool = ChunkBufferPool()
    let id = ChunkID(hex: String(repeating: "ab", count: 32))!

    private func routed(
        _ routes: [(ClosedRange<UInt8>, String)], _ stores: [ScriptedStore], operatorURLs: [String] = [], override: Bool = false,
        seed: UInt64 = 1
    ) -> RoutedUpstream {
        RoutedUpstream(
            routes: routes.map { Route(range: ChunkRange(firstBytes: $0), url: $1) }, operatorURLs: operatorURLs, override: override,
            random: UpstreamRandom(SeededGenerator(state: seed))
        ) { url throws(UpstreamError) -> any UpstreamStore in
            guard let store = stores.first(where: { $0.label == url }) else { throw .unusable(line: "\(url): not supported") }
            return store
        }
    }

    private func failure(_ store: RoutedUpstream) async -> UpstreamError? {
        do throws(UpstreamError) {
            _ = try await store.fetch(id, pool: pool)
            return nil
        } catch {
            return error
        }
    }

    @Test func onlyMatchingRoutesAreAsked() async throws {
        let (low, high) = (ScriptedStore("low") { _ in [1] }, ScriptedStore("high") { _ in [2] })
        let store = routed([(0...0x7f, "low"), (0x80...0xff, "high")], [low, high])
        #expect(try await store.fetch(id, pool: pool).withBytes { Array($0) } == [2])
        #expect(low.count == 0)
    }

    @Test func noRouteSaysSo() async {
        let store = routed([(0...0x7f, "low")], [ScriptedStore("low") { _ in [1] }])
        #expect(await failure(store)?.description.hasPrefix("no route for chunks that begin with ab") == true)
        #expect(!store.covers(id))
    }

    @Test func missingLeadsOnAndAllMissingIsMissing() async throws {
        let empty = ScriptedStore("empty") { _ throws(UpstreamError) in throw .missing }
        let full = ScriptedStore("full") { _ in [1] }
        for seed in 0..<10 {
            let store = routed([(0...255, "empty"), (0...255, "full"), (0...255, "s3://x")], [empty, full], seed: UInt64(seed))
            #expect(try await store.fetch(id, pool: pool).count == 1, "seed \(seed)")
        }
        #expect(await failure(routed([(0...255, "empty"), (0xab...0xab, "empty")], [empty])) == .missing)
    }

    @Test func aFailureIsToldWithAllReasons() async {
        let down = ScriptedStore("down") { _ throws(UpstreamError) in throw .failed(retryable: true, line: "down: refused") }
        let wrong = ScriptedStore("wrong") { _ throws(UpstreamError) in throw .failed(retryable: false, line: "wrong: status 403") }
        let empty = ScriptedStore("empty") { _ throws(UpstreamError) in throw .missing }
        let error = await failure(routed([(0...255, "down"), (0...255, "wrong"), (0...255, "empty")], [down, wrong, empty]))
        #expect(error?.isRetryable == true)
        #expect(error?.description.contains("down: refused") == true && error?.description.contains("wrong: status 403") == true)
        #expect(error?.description.contains("\n") == false)
    }

    @Test func onlyUnusableRoutesAreUnusable() async {
        #expect(
            await failure(routed([(0...255, "zdb://a"), (0...255, "s3://b")], []))
                == .unusable(line: "zdb://a: not supported; s3://b: not supported"))
    }

    @Test func theOperatorsURLsComeFirstOrAlone() async throws {
        let (mine, theirs) = (ScriptedStore("mine") { _ in [1] }, ScriptedStore("theirs") { _ in [2] })
        for _ in 0..<10 { _ = try await routed([(0...255, "theirs")], [mine, theirs], operatorURLs: ["mine"]).fetch(id, pool: pool) }
        #expect(mine.count == 10 && theirs.count == 0)
        let empty = ScriptedStore("empty") { _ throws(UpstreamError) in throw .missing }
        let only = routed([(0...255, "theirs")], [empty, theirs], operatorURLs: ["empty"], override: true)
        #expect(await failure(only) == .missing)
        #expect(theirs.count == 0)
    }

    @Test func replicasShareTheLoadAndFailingOnesAreAskedLess() async throws {
        let (a, b) = (ScriptedStore("a") { _ in [1] }, ScriptedStore("b") { _ in [1] })
        let fair = routed([(0...255, "a"), (0...255, "b")], [a, b])
        for _ in 0..<200 { _ = try await fair.fetch(id, pool: pool) }
        #expect((60...140).contains(a.count), "\(a.count)")
        let down = ScriptedStore("down") { _ throws(UpstreamError) in throw .failed(retryable: true, line: "down") }
        let uneven = routed([(0...255, "a"), (0...255, "down")], [a, down])
        for _ in 0..<200 { _ = try await uneven.fetch(id, pool: pool) }
        #expect((1...40).contains(down.count), "\(down.count)")
    }

    @Test func wrongBytesAreBlamedAndFetchedElsewhere() async throws {
        let bytes: [UInt8] = [1, 2, 3]
        let id = bytes.withUnsafeBytes { ChunkID(ofStored: $0) }
        let (liar, honest) = (ScriptedStore("liar") { _ in [9] }, ScriptedStore("honest") { _ in bytes })
        let store = routed([(0...255, "honest")], [liar, honest], operatorURLs: ["liar"])
        let chunk = try await store.chunk(id, priority: .foreground, pool: pool) { Chunk(verifying: $0, as: $1) }
        #expect(chunk.id == id)
        #expect(liar.blame == 1 && honest.blame == 0)
    }

    @Test func aStoreThatSentWrongBytesIsNotAskedForThatChunkAgainAtOnce() async throws {
        let bytes: [UInt8] = [1, 2, 3]
        let right = bytes.withUnsafeBytes { ChunkID(ofStored: $0) }
        let liar = ScriptedStore("liar") { _ in bytes }
        let store = routed([(0...255, "liar")], [liar])
        var lines: [String] = []
        for _ in 0..<3 {
            do throws(UpstreamError) {
                _ = try await store.chunk(id, priority: .foreground, pool: pool) { Chunk(verifying: $0, as: $1) }
            } catch {
                lines.append("\(error)")
            }
        }
        #expect(liar.count == 1 && liar.blame == 1)
        #expect(lines.count == 3 && lines.allSatisfy { $0.contains("wrong bytes") }, "\(lines)")
        _ = try await store.chunk(right, priority: .foreground, pool: pool) { Chunk(verifying: $0, as: $1) }
    }

    @Test func pausesForWrongBytesGrowAndAreBounded() {
        var wrong = WrongBytes()
        var now = ContinuousClock.now
        wrong.noteWrong(0, id, now: now)
        #expect(wrong.pause(0, id, now: now) == WrongBytes.firstPause)
        #expect(wrong.pause(1, id, now: now) == nil)
        now += WrongBytes.firstPause
        #expect(wrong.pause(0, id, now: now) == nil)
        for _ in 0..<20 { wrong.noteWrong(0, id, now: now) }
        #expect(wrong.pause(0, id, now: now) == WrongBytes.longestPause)
        wrong.noteRight(0, id)
        #expect(wrong.pause(0, id, now: now) == nil)
    }

    @Test func tiersAreAskedInTheirOrder() async throws {
        let order = Mutex<[String]>([])
        let stores = ["a", "b", "c", "d"].map { name in
            ScriptedStore(name) { _ throws(UpstreamError) in
                order.withLock { $0.append(name) }
                throw .missing
            }
        }
        let routes = [
            Route(url: "d", tier: 2), Route(url: "b", tier: 1), Route(url: "c", tier: 1), Route(url: "a"), Route(url: "b", tier: 3),
        ]
        var seen: Set<[String]> = []
        for seed in UInt64(0)..<20 {
            order.withLock { $0 = [] }
            let routed = RoutedUpstream(routes: routes, random: UpstreamRandom(SeededGenerator(state: seed))) { url throws(UpstreamError) in
                stores.first { $0.label == url }!
            }
            #expect(await failure(routed) == .missing)
            seen.insert(order.withLock { $0 })
        }
        #expect(seen == [["a", "b", "c", "d"], ["a", "c", "b", "d"]])
    }

    @Test func rangesOfSeveralBytesAreHeededAndOneURLTakesItsFirstTier() async throws {
        let (near, far) = (ScriptedStore("near") { _ in [1] }, ScriptedStore("far") { _ in [2] })
        let narrow = ChunkRange(from: [0xab, 0xab, 0x00], through: [0xab, 0xab, 0xaa])!
        let fitting = ChunkRange(from: [0xab, 0xab, 0x00], through: [0xab, 0xab, 0xab])!
        let stores = [near, far]
        for (range, expected) in [(narrow, UInt8(2)), (fitting, 1)] {
            let routed = RoutedUpstream(routes: [Route(url: "far", tier: 1), Route(range: range, url: "near")]) {
                url throws(UpstreamError) in
                stores.first { $0.label == url }!
            }
            #expect(try await routed.fetch(id, pool: pool).withBytes { $0[0] } == expected)
        }
    }

    @Test func whatWasFoundElsewhereIsOfferedToTheCaches() async throws {
        let bytes: [UInt8] = [1, 2, 3]
        let id = bytes.withUnsafeBytes { ChunkID(ofStored: $0) }
        let (source, cache) = (ScriptedStore("source") { _ in bytes }, ScriptedStore("cache") { _ in [9] })
        let offered = Mutex<[String]>([])
        func routed(_ routes: [Route]) -> RoutedUpstream {
            RoutedUpstream(
                routes: routes, operatorURLs: [], override: false, random: UpstreamRandom(),
                open: { url throws(UpstreamError) in url == "source" ? source : cache },
                keep: { chunk, url in offered.withLock { $0.append("\(url) \(chunk.byteCount)") } })
        }
        let other = ChunkRange(firstBytes: (id.firstByte &+ 1)...(id.firstByte &+ 1))
        let store = routed([
            Route(url: "source"), Route(url: "cache", isCache: true), Route(url: "cache", isCache: true),
            Route(range: other, url: "elsewhere", isCache: true), Route(url: "source", isCache: true),
        ])
        _ = try await store.chunk(id, priority: .foreground, pool: pool) { Chunk(verifying: $0, as: $1) }
        #expect(offered.withLock { $0 } == ["cache 3"])
        // Caches are not read, wrong and unverified bytes not offered.
        #expect(cache.count == 0)
        _ = try await store.fetch(id, pool: pool)
        let liar = routed([Route(url: "liar"), Route(url: "cache2", isCache: true)])
        await #expect(throws: UpstreamError.self) {
            try await liar.chunk(id, priority: .foreground, pool: pool) { Chunk(verifying: $0, as: $1) }
        }
        #expect(offered.withLock { $0.count } == 1)
        #expect(!routed([Route(url: "cache", isCache: true)]).covers(id))
    }

    @Test func cachesAreFilledInTheBackground() async throws {
        let zdb = try await ServerProcess.zdb()
        let directory = try TestFiles.directory()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let ids = try (0..<6).map { try TestFiles.store(TestFiles.content(1_000, seed: UInt64($0)), below: directory) }
        let told = Mutex<[String]>([])
        let opener = StoreOpener(
            curl: CurlMulti(), limits: UpstreamLimits(retry: RetryLimits(attempts: 1)), tell: { line in told.withLock { $0.append(line) } })
        let cache = "zdb://127.0.0.1:\(zdb.port)"
        let routed = RoutedUpstream(
            routes: [
                Route(url: "dir://\(directory)"), Route(url: cache, isCache: true), Route(url: "zdb://127.0.0.1:1", isCache: true),
                Route(url: "http://127.0.0.1:1", isCache: true),
            ], opener: opener)
        for id in ids {
            _ = try await routed.chunk(id, priority: .foreground, pool: pool) { Chunk(verifying: $0, as: $1) }
            #expect(await eventually { opener.caches.active == 0 })
        }
        let kept = try opener.openSink(cache)
        for id in ids { #expect(try await kept.contains(id)) }
        // Once for each of the two.
        #expect(told.withLock { $0.count } == 2)
        #expect(told.withLock { $0.contains { $0.contains("Connection refused") } && $0.contains { $0.contains("plain http") } })
    }

    @Test func cachesThatAreSlowDoNotHoldChunksWithoutBound() async throws {
        let counters = UpstreamCounters()
        let writer = CacheWriter(counters: counters) { _ in }
        let sink = SlowSink()
        let chunk = Chunk.of([1])
        for _ in 0..<20 { writer.offer(chunk, to: "slow") { _ throws(UpstreamError) in sink } }
        #expect(counters.snapshot.cacheDropped == 20 - CacheWriter.maxInFlight)
        sink.isOpen.withLock { $0 = true }
        #expect(await eventually { writer.active == 0 })
    }

    @Test func realStoresAreOpenedByTheirScheme() async throws {
        let directory = try TestFiles.directory()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let id = try TestFiles.store([1, 2], below: directory)
        let curl = CurlMulti()
        let store = RoutedUpstream(
            routes: [
                Route(url: "http://127.0.0.1:1"), Route(url: "dir://\(directory)"),
                Route(url: "zdb://x/y"),
            ], opener: StoreOpener(curl: curl, limits: UpstreamLimits(retry: RetryLimits(attempts: 1))))
        for _ in 0..<5 { #expect(try await store.fetch(id, pool: pool).count == 2) }
        #expect(curl.counters.snapshot.chunks == 5)
    }
}
