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
