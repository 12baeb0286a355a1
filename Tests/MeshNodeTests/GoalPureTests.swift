import ChunkModel
import FetchPlanner
import Gossip
import MeshKeys
import Testing

@testable import MeshNode

@Suite struct GoalPureTests {
    static func digest(_ number: UInt8) -> FlistDigest { FlistDigest(Blake2b.hash256([number])) }
    static let chunks = (0..<500).map { number in
        withUnsafeBytes(of: UInt64(number).bigEndian) { ChunkID(ofStored: $0) }
    }

    // MARK: The book

    @Test func theLatestWordWinsInEveryOrder() {
        let digest = Self.digest(1)
        let goals = [
            KeepGoal(version: 1, copies: 2), KeepGoal(version: 2, copies: 3), KeepGoal(version: 3, copies: 0),
            KeepGoal(version: 3, copies: 4),
        ]
        for first in goals {
            for second in goals {
                var (one, other) = (GoalBook([digest: first]), GoalBook([digest: second]))
                _ = one.merge(second, for: digest)
                _ = other.merge(first, for: digest)
                #expect(one == other)
            }
        }
        var book = GoalBook(Dictionary(uniqueKeysWithValues: [(digest, goals[3])]))
        _ = book.merge(goals[2], for: digest)
        #expect(book.active.isEmpty, "of two that did not know of each other the end wins")
        _ = book.set(2, for: digest)
        #expect(book.goals[digest] == KeepGoal(version: 4, copies: 2))
        _ = book.set(0, for: digest)
        #expect(book.goals[digest] == KeepGoal(version: 5, copies: 0))
    }

    @Test func thereAreBounds() {
        var book = GoalBook()
        for number in 0..<40 { _ = book.merge(KeepGoal(version: 1, copies: 2), for: Self.digest(UInt8(number))) }
        #expect(book.active.count == GoalBook.maxActive)
        let isTaken = book.set(2, for: Self.digest(200))
        #expect(!isTaken)
        for number in 0..<250 { _ = book.merge(KeepGoal(version: 9, copies: 0), for: Self.digest(UInt8(number))) }
        #expect(book.active.isEmpty && book.goals.count <= GoalBook.maxEnded + GoalBook.maxActive)
        let isBelieved = book.merge(KeepGoal(version: .max, copies: 3), for: Self.digest(1))
        #expect(!isBelieved)
        #expect(GoalFact([UInt8](repeating: 0xff, count: 12)) == nil && GoalFact([]) == nil)
        let fact = GoalFact(goal: KeepGoal(version: 7, copies: 3), isFull: true)
        #expect(GoalFact(fact.encoded) == fact)
    }

    // MARK: Grace

    @Test func aRebootIsNoReasonToCopy() {
        var history = ShortHistory(grace: .seconds(100))
        // Chunk 0 is short for 80 s, comes back, goes again; chunk 70 is gone for good.
        var due: [UInt64] = []
        for second in stride(from: 0, to: 160, by: 2) {
            let isAway = second < 80 || second > 90
            due = history.note([isAway ? 1 : 0, 1 << 6], now: .seconds(second)).due
            #expect(due[0] == 0, "at \(second) s")
            if second < 100 { #expect(due[1] == 0) }
            if second >= 126 { #expect(due[1] == 1 << 6, "at \(second) s") }
        }
        for second in stride(from: 160, to: 500, by: 2) {
            let (due, late) = history.note([1, 1 << 6], now: .seconds(second))
            if second > 220 { #expect(due == [1, 1 << 6]) }
            if second > 330 { #expect(late[1] == 1 << 6) }
        }
        let none = history.note([0, 0], now: .seconds(600)).due
        // Another number of chunks begins anew.
        let anew = history.note([1], now: .seconds(601)).due
        #expect(none == [0, 0] && anew == [0])
    }

    // MARK: Who copies what

    /// The shares of all nodes, each computed by itself.
    static func shares(_ round: KeepRound, _ nodes: [NodeID], late: Bool = false) -> [NodeID: [Int]] {
        let due = round.short
        return Dictionary(
            uniqueKeysWithValues: nodes.map {
                ($0, round.share(of: $0, chunks: chunks, due: due, late: late ? due : [], limit: .max))
            })
    }

    @Test(arguments: [1, 2, 3, 5]) func eachLackingCopyIsMadeOnce(copies: Int) {
        let nodes = (0..<6).map { _ in NodeIdentity.random().id }
        var generator = SystemRandomNumberGenerator()
        let seed = UInt64.random(in: 0 ... .max, using: &generator)
        var state = seed | 1
        func next() -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33)
        }
        let holders = nodes.map { node -> KeepRound.Holder in
            var bitmap = Bitmap(count: Self.chunks.count)
            for index in Self.chunks.indices where next() % 3 == 0 { bitmap.set(index) }
            return KeepRound.Holder(node: node, bitmap: bitmap)
        }
        let round = KeepRound(copies: copies, chunkCount: Self.chunks.count, holders: holders)
        let shares = Self.shares(round, nodes)
        for index in Self.chunks.indices {
            let had = holders.count { $0.bitmap!.contains(index) }
            let made = shares.values.count { $0.contains(index) }
            #expect(had + made == max(had, copies), "chunk \(index), seed \(seed)")
        }
        for holder in holders { #expect(shares[holder.node]!.allSatisfy { !holder.bitmap!.contains($0) }) }
        // Spread: nobody makes more than twice the mean.
        let made = shares.values.map(\.count)
        if copies > 2 { #expect(made.max()! <= 2 * made.reduce(0, +) / nodes.count + 20) }
    }

    @Test func moreCopiesThanNodesMeansAll() {
        let nodes = (0..<3).map { _ in NodeIdentity.random().id }
        var full = Bitmap(count: Self.chunks.count)
        full.set(0..<Self.chunks.count)
        let holders = [
            KeepRound.Holder(node: nodes[0], bitmap: full), KeepRound.Holder(node: nodes[1], bitmap: full),
            KeepRound.Holder(node: nodes[2], bitmap: nil),
        ]
        let round = KeepRound(copies: 5, chunkCount: Self.chunks.count, holders: holders)
        #expect(round.wanted == 3 && round.minCopies == 2 && round.keptChunks == 0)
        #expect(Self.shares(round, nodes)[nodes[2]]!.count == Self.chunks.count)
    }

    @Test func whoHasNoRoomIsPassedOverAndWhatIsLateGoesToTheNext() {
        let nodes = (0..<4).map { _ in NodeIdentity.random().id }
        var full = Bitmap(count: Self.chunks.count)
        full.set(0..<Self.chunks.count)
        var holders = nodes.map { KeepRound.Holder(node: $0, bitmap: nil) }
        holders[0] = KeepRound.Holder(node: nodes[0], bitmap: full)
        holders[1].isFull = true
        let round = KeepRound(copies: 2, chunkCount: Self.chunks.count, holders: holders)
        let shares = Self.shares(round, nodes)
        #expect(shares[nodes[0]]!.isEmpty && shares[nodes[1]]!.isEmpty)
        #expect(shares[nodes[2]]!.count + shares[nodes[3]]!.count == Self.chunks.count)
        let late = Self.shares(round, nodes, late: true)
        #expect(late[nodes[2]]!.count == Self.chunks.count && late[nodes[3]]!.count == Self.chunks.count)
    }
}
