import ChunkModel
import ChunkStore
import Foundation
import Synchronization
import Testing

/// Who holds what at a site of several stores, as gossip tells it: each hears of the others late.
final class Site: Sendable {
    private struct Entry {
        var isOffered = false
        /// When the others hear of it.
        var since = ContinuousClock.now
        var before = false
    }
    let delay: Duration
    private let told = Mutex<[Int: [ChunkID: Entry]]>([:])
    /// Chunks of flists; all others are nobody's to miss.
    let wanted: Set<ChunkID>
    let copies: Int

    init(delay: Duration, wanted: Set<ChunkID>, copies: Int = 1) { (self.delay, self.wanted, self.copies) = (delay, wanted, copies) }

    func announce(_ node: Int, _ id: ChunkID, _ isOffered: Bool) {
        told.withLock { told in
            var entry = told[node]?[id] ?? Entry()
            let now = ContinuousClock.now
            let shown = now - entry.since >= delay ? entry.isOffered : entry.before
            guard entry.isOffered != isOffered else { return }
            entry = Entry(isOffered: isOffered, since: now, before: shown)
            told[node, default: [:]][id] = entry
        }
    }

    /// The others that `node` believes to offer it, by rising number: the ranking.
    func others(of node: Int, _ id: ChunkID) -> [Int] {
        told.withLock { told in
            let now = ContinuousClock.now
            return told.keys.filter { $0 != node }.sorted().filter { other in
                guard let entry = told[other]?[id] else { return false }
                return now - entry.since >= delay ? entry.isOffered : entry.before
            }
        }
    }

    func custody(_ node: Int, _ id: ChunkID, _ isLeaving: Bool) -> Custody {
        guard wanted.contains(id) else { return .redundant }
        let others = others(of: node, id)
        // Another ranking for each chunk, the same for all nodes.
        let key = Int(id.firstByte)
        func weight(_ node: Int) -> Int { (key &* 31 &+ node &* 17) % 101 * 100 + node }
        return Custody.judge(rank: others.count { weight($0) > weight(node) }, others: others.count, copies: copies, isLeaving: isLeaving)
    }
}

@Suite struct CustodyTests {
    /// A store of a site, which tells it what it offers.
    final class Node: Sendable {
        let number: Int
        let scratch: Scratch
        let store: ChunkStore

        init(_ number: Int, _ site: Site, maxBytes: Int64, handOver: Duration = .milliseconds(150)) throws {
            final class Late: Sendable { let store = Mutex<ChunkStore?>(nil) }
            let late = Late()
            self.number = number
            scratch = try Scratch()
            let tell: @Sendable ([ChunkID]) -> Void = { ids in
                for id in ids { site.announce(number, id, late.store.withLock { $0?.isOffered(id) } ?? false) }
            }
            store = try scratch.open(
                maxBytes: maxBytes, custody: { site.custody(number, $0, $1) }, onRemoved: tell, onOffer: tell, handOver: handOver)
            late.store.withLock { [store] in $0 = store }
        }

        @discardableResult func insert(_ chunk: Chunk, _ site: Site) -> InsertOutcome {
            let outcome = store.insert(chunk)
            if case .notStored = outcome { return outcome }
            site.announce(number, chunk.id, store.isOffered(chunk.id))
            return outcome
        }

        /// Lets the cache's thread have a turn.
        func wake(_ maxBytes: Int64) { store.setLimits(maxBytes: maxBytes, minFree: .bytes(0)) }
    }

    @Test func theFirstOfTheRankingKeepIt() {
        #expect(Custody.judge(rank: 0, others: 0, copies: 1, isLeaving: false) == .last)
        #expect(Custody.judge(rank: 0, others: 3, copies: 1, isLeaving: false) == .kept)
        #expect(Custody.judge(rank: 1, others: 3, copies: 1, isLeaving: false) == .shared)
        #expect(Custody.judge(rank: 2, others: 3, copies: 1, isLeaving: false) == .redundant)
        #expect(Custody.judge(rank: 1, others: 3, copies: 2, isLeaving: false) == .kept)
        #expect(Custody.judge(rank: 1, others: 1, copies: 2, isLeaving: true) == .kept)
        #expect(Custody.judge(rank: 1, others: 1, copies: 1, isLeaving: true) == .redundant)
        #expect(Custody.judge(rank: 0, others: 0, copies: 1, isLeaving: true) == .last)
        // However many hold it, exactly `copies` of them keep it.
        for holders in 1...8 {
            for copies in 1...3 {
                let kept = (0..<holders).count {
                    [.kept, .last].contains(Custody.judge(rank: $0, others: holders - 1, copies: copies, isLeaving: false))
                }
                #expect(kept == min(copies, holders))
            }
        }
    }

    @Test func whatIsWithdrawnGoesWhenOthersStillHoldIt() async throws {
        let chunks = (0..<20).map { chunk($0) }
        let site = Site(delay: .zero, wanted: Set(chunks.map(\.id)))
        let nodes = try (0..<2).map { try Node($0, site, maxBytes: 21_000) }
        for chunk in chunks { for node in nodes { #expect(node.insert(chunk, site) == .stored) } }
        func wakeAll() { for node in nodes { node.wake(21_000) } }
        // Above the high mark: each lets go of what the other one is first for.
        try await until {
            wakeAll(); return nodes.allSatisfy { $0.store.statistics.evicted > 0 }
        }
        for chunk in chunks { #expect(nodes.contains { $0.store.contains(chunk.id) }, "\(chunk.id)") }
        #expect(nodes.allSatisfy { $0.store.statistics.evictedKept == 0 })
        for node in nodes { node.store.close() }
    }

    @Test func whatTheOtherLostMeanwhileStaysAndIsOfferedAgain() async throws {
        let chunks = (0..<20).map { chunk($0) }
        let site = Site(delay: .zero, wanted: Set(chunks.map(\.id)))
        let nodes = try (0..<2).map { try Node($0, site, maxBytes: 21_000, handOver: .milliseconds(600)) }
        for chunk in chunks { for node in nodes { node.insert(chunk, site) } }
        try await until {
            nodes[1].wake(21_000); return nodes[1].store.statistics.leaving > 0
        }
        let leaving = chunks.map(\.id).filter { nodes[1].store.contains($0) && !nodes[1].store.isOffered($0) }
        #expect(!leaving.isEmpty && leaving.allSatisfy { site.others(of: 0, $0).isEmpty })
        // A use brings one back at once.
        _ = try nodes[1].store.open(leaving[0])
        #expect(nodes[1].store.isOffered(leaving[0]) && site.others(of: 0, leaving[0]) == [1])
        nodes[0].store.remove(leaving)
        try await until {
            nodes[1].wake(21_000); return nodes[1].store.statistics.leaving == 0
        }
        for id in leaving { #expect(nodes[1].store.isOffered(id) && site.others(of: 0, id) == [1], "\(id)") }
        for node in nodes { node.store.close() }
    }

    /// Four stores under pressure from threads of their own, news 20 ms late: while there is anything else to evict, no chunk is lost to all.
    @Test(arguments: [1, 2]) func noChunkIsLostWhileOthersCanBeEvicted(copies: Int) async throws {
        let wanted = (0..<120).map { chunk($0) }
        let site = Site(delay: .milliseconds(20), wanted: Set(wanted.map(\.id)), copies: copies)
        // Room for two thirds of what is wanted, and some of what is not.
        let nodes = try (0..<4).map { try Node($0, site, maxBytes: 110_000) }
        await withTaskGroup(of: Void.self) { group in
            for node in nodes {
                group.addTask {
                    await withCheckedContinuation { continuation in
                        Thread.detachNewThread {
                            for (index, chunk) in wanted.enumerated() where index % 4 != node.number {
                                node.insert(chunk, site)
                                node.insert(MiniChunks.other(node.number * 10_000 + index), site)
                                if index % 20 == 0 { usleep(30_000) }
                            }
                            for index in 0..<400 {
                                node.insert(MiniChunks.other(node.number * 10_000 + 1000 + index), site)
                                if index % 40 == 0 { usleep(30_000) }
                            }
                            continuation.resume()
                        }
                    }
                }
            }
        }
        try await Task.sleep(for: .milliseconds(300))
        for node in nodes { node.wake(110_000) }
        let left = wanted.map { chunk in nodes.count { $0.store.contains(chunk.id) } }
        #expect(left.min() ?? 0 >= 1, "copies left: \(left)")
        #expect(nodes.contains { $0.store.statistics.evicted > 400 })
        for node in nodes { node.store.close() }
    }

    enum MiniChunks {
        static func other(_ number: Int) -> Chunk { chunk(1_000_000 + number) }
    }

    private func until(_ condition: () throws -> Bool) async throws {
        let deadline = ContinuousClock.now + .seconds(8)
        while try !condition() {
            try #require(.now < deadline)
            try await Task.sleep(for: .milliseconds(10))
        }
    }
}
