import Testing

@testable import LineBudget

private let rate: UInt64 = 1_000_000
private let total = UInt64(Double(rate) * LineBudget.aim)

@Suite struct ShareTests {
    private func share(_ mine: LineDemand, _ others: [LineDemand]) -> UInt64 { LineBudget.fairShare(of: total, mine: mine, others: others) }

    @Test func `equals share equally, and who wants nothing gets nothing`() {
        let all = LineDemand(.background)
        #expect(share(all, [all, all, all]) == total / 4)
        #expect(share(all, [.none, .none, all]) == total / 2)
        #expect(share(all, []) == total)
        #expect(share(.none, [all]) == 0)
    }

    @Test func `what one does not need goes to the others`() {
        let all = LineDemand(.background)
        let little = LineDemand(.background, need: 50_000)
        #expect(share(little, [all, all]) == 50_000)
        #expect(share(all, [little, all]) == (total - 50_000) / 2)
        #expect(share(all, [little, little]) == total - 100_000)
    }

    @Test func `readers come first, prefetches take what is left`() {
        let reader = LineDemand(.foreground)
        let prefetch = LineDemand(.background)
        #expect(share(reader, [prefetch, prefetch]) == total)
        #expect(share(prefetch, [reader, prefetch]) == 0)
        #expect(share(prefetch, [LineDemand(.foreground, need: 600_000), prefetch]) == (total - 600_000) / 2)
    }

    @Test func `claims of any size do not trap`() {
        let huge = LineDemand(.foreground, need: .max)
        #expect(share(LineDemand(.background), [huge, huge, huge]) == 0)
        var budget = LineBudget()
        let peers = [LineBudget.Peer](repeating: LineBudget.Peer(demand: huge, share: .max), count: 3)
        #expect(budget.update(rate: .max - 1, demand: huge, others: peers, nodes: 4, now: .zero) == 0)
        #expect(budget.update(rate: 0, demand: huge, others: peers, nodes: 4, now: .zero) == 0)
        #expect(budget.update(rate: .max, demand: huge, others: peers, nodes: 4, now: .zero) == .max)
        #expect(budget.update(rate: rate, demand: huge, others: [], nodes: 1, now: .zero) == total)
    }

    @Test func `a node gives way at once, takes only what was given up, and waits for nobody for ever`() {
        var budget = LineBudget()
        let all = LineDemand(.background)
        #expect(budget.update(rate: rate, demand: all, others: [], nodes: 1, now: .zero) == total)
        #expect(budget.update(rate: rate, demand: all, others: [.init(demand: all, share: 0)], nodes: 2, now: .seconds(1)) == total / 2)
        // The other one is new, and sees the first with all.
        var other = LineBudget()
        #expect(other.update(rate: rate, demand: all, others: [.init(demand: all, share: total)], nodes: 2, now: .seconds(1)) == 0)
        #expect(other.nextDeadline(now: .seconds(3)) == .seconds(1) + LineBudget.patience)
        #expect(other.update(rate: rate, demand: all, others: [.init(demand: all, share: total - 9)], nodes: 2, now: .seconds(2)) == 9)
        #expect(other.update(rate: rate, demand: all, others: [.init(demand: all, share: total)], nodes: 2, now: .seconds(7)) == total / 2)
    }
}

@Suite struct NewcomerTests {
    private let all = LineDemand(.background)

    @Test func `who has just come takes nothing until the others have told`() {
        var budget = LineBudget(cameAt: .zero)
        #expect(budget.update(rate: rate, demand: all, others: [], nodes: 1, now: .zero) == 0)
        // It has found two; one of them has told.
        let told = LineBudget.Peer(demand: all, share: total / 2)
        #expect(budget.update(rate: rate, demand: all, others: [told], nodes: 3, now: .milliseconds(400)) == 0)
        #expect(budget.nextDeadline(now: .milliseconds(400)) == .milliseconds(700))
        #expect(budget.update(rate: rate, demand: all, others: [told], nodes: 3, now: .milliseconds(800)) == 0)
        #expect(budget.nextDeadline(now: .milliseconds(1_100)) == LineBudget.settling)
        // Then the other; the line is full, and then they give way.
        #expect(budget.update(rate: rate, demand: all, others: [told, told], nodes: 3, now: .milliseconds(900)) == 0)
        let gave = LineBudget.Peer(demand: all, share: total / 3)
        #expect(budget.update(rate: rate, demand: all, others: [gave, gave], nodes: 3, now: .milliseconds(950)) >= total / 3 - 1)
        // Later ones are heard of like by any other.
        #expect(budget.update(rate: rate, demand: all, others: [], nodes: 2, now: .seconds(4)) == total)
    }

    @Test func `alone it has the line after a while, and a reader a part of it at once`() {
        var budget = LineBudget(cameAt: .seconds(5))
        let reader = LineDemand(.foreground)
        #expect(budget.update(rate: rate, demand: reader, others: [], nodes: 1, now: .seconds(5)) == total / 8)
        #expect(budget.update(rate: rate, demand: reader, others: [], nodes: 1, now: .seconds(5) + LineBudget.settling) == total)
        var unlimited = LineBudget(cameAt: .zero)
        #expect(unlimited.update(rate: .max, demand: all, others: [], nodes: 1, now: .zero) == .max)
    }
}

/// Nodes of one site, each with its budget, under virtual time: what they say reaches the others late, each at its own time; nodes come, go
/// quietly, or are killed, which the others notice only after seconds.
private struct Line {
    struct Node {
        var budget = LineBudget()
        var wants = LineDemand.none
        var since: Int
        /// Until then it knows of nobody.
        var isBlindUntil = 0
        var diedAt: Int?
        var lastTold = LineBudget.Peer(demand: .none, share: 0)
        /// What has been said, and when each of the others hears it.
        var said: [(at: Int, peer: LineBudget.Peer)] = [(0, .init(demand: .none, share: 0))]
    }
    /// Milliseconds of one step, and until a dead node is known to be dead.
    static let step = 100
    static let detection = 4_000
    var nodes: [Int: Node] = [:]
    var now = 0
    var generator: Seeded
    /// Bytes a second that flow in each step, and whether anybody could have used more.
    var flow: [Double] = []
    var wanted: [Bool] = []
    let delays: ClosedRange<Int>

    init(seed: UInt64, delays: ClosedRange<Int>) {
        generator = Seeded(state: seed)
        self.delays = delays
    }

    /// The delay from one node to another differs from word to word, but is the same whenever it is asked for.
    private func delay(_ from: Int, _ to: Int, _ at: Int) -> Int {
        var hash = Seeded(state: UInt64(from * 1_000_003 + to * 10_007 + at))
        return delays.lowerBound + Int(hash.next() % UInt64(delays.count))
    }

    mutating func step() {
        let ids = nodes.keys.sorted()
        for id in ids {
            guard nodes[id]!.diedAt == nil else { continue }
            // Who belongs to the site is known before what he wants.
            let isBlind = now < nodes[id]!.isBlindUntil
            let members = isBlind ? 1 : nodes.values.count { now - ($0.diedAt ?? now) <= Self.detection }
            let others =
                isBlind
                ? []
                : ids.compactMap { other -> LineBudget.Peer? in
                    guard other != id, let node = nodes[other] else { return nil }
                    if let died = node.diedAt, now - died > Self.detection { return nil }
                    return node.said.last { $0.at + delay(other, id, $0.at) <= now }?.peer
                }
            var node = nodes[id]!
            let share = node.budget.update(rate: rate, demand: node.wants, others: others, nodes: members, now: .milliseconds(now))
            let peer = LineBudget.Peer(demand: node.wants, share: share)
            if peer != node.lastTold {
                node.lastTold = peer
                node.said.append((now, peer))
                // Older words have reached everybody.
                while node.said.count > 1, node.said[1].at + delays.upperBound < now { node.said.removeFirst() }
            }
            nodes[id] = node
        }
        let alive = nodes.values.filter { $0.diedAt == nil && $0.wants.urgency > .none }
        flow.append(alive.reduce(0) { $0 + Double(min($1.budget.share, $1.wants.need)) })
        wanted.append(alive.contains { $0.wants.need == .max })
        now += Self.step
    }

    mutating func chance(_ part: Double) -> Bool { Double.random(in: 0..<1, using: &generator) < part }

    /// The highest mean rate over any ten seconds.
    var worst: Double {
        let width = 10_000 / Self.step
        var sum = flow.prefix(width).reduce(0, +)
        var worst = sum
        for i in width..<max(width, flow.count) {
            sum += flow[i] - flow[i - width]
            worst = max(worst, sum)
        }
        return worst / Double(width)
    }
}

@Suite struct SiteTests {
    @Test(arguments: UInt64(1)...8) func `the line is kept over any ten seconds while nodes come, go and are killed`(seed: UInt64) {
        var line = Line(seed: seed, delays: 50...900)
        for id in 0..<8 { line.nodes[id] = Line.Node(since: 0) }
        for id in 0..<4 { line.nodes[id]!.wants = LineDemand(.background) }
        var next = 8
        while line.now < 120_000 {
            for id in line.nodes.keys.sorted() where line.nodes[id]!.diedAt == nil {
                // Each changes its mind about three times a minute.
                if line.chance(0.005) {
                    let demands = [
                        LineDemand.none, LineDemand(.background), LineDemand(.background), LineDemand(.background, need: 60_000),
                    ]
                    line.nodes[id]!.wants = demands.randomElement(using: &line.generator)!
                }
                // A kill every half minute.
                if line.chance(0.0004) { line.nodes[id]!.diedAt = line.now }
            }
            if line.chance(0.004) {
                line.nodes[next] = Line.Node(since: line.now)
                line.nodes[next]!.wants = LineDemand(.background)
                next += 1
            }
            line.step()
        }
        #expect(line.worst <= Double(rate) * 1.05, "seed \(seed): \(line.worst)")
    }

    @Test(arguments: UInt64(1)...6) func `under lasting demand nearly all of the line is used`(seed: UInt64) {
        var line = Line(seed: seed, delays: 50...700)
        for id in 0..<8 {
            line.nodes[id] = Line.Node(since: 0)
            line.nodes[id]!.wants = LineDemand(.background)
        }
        while line.now < 120_000 {
            // One leaves and another comes every ten seconds, one is killed in each minute.
            if line.now % 10_000 == 5_000 {
                let id = Int.random(in: 0..<8, using: &line.generator)
                if line.nodes[id]!.diedAt == nil {
                    line.nodes[id]!.wants = line.nodes[id]!.wants.urgency == .none ? LineDemand(.background) : .none
                }
            }
            if line.now % 60_000 == 30_000 { line.nodes[Int.random(in: 0..<8, using: &line.generator)]!.diedAt = line.now }
            line.step()
        }
        let used = zip(line.flow, line.wanted).filter(\.1).map(\.0)
        let mean = used.reduce(0, +) / Double(max(used.count, 1))
        #expect(mean >= Double(rate) * 0.95, "seed \(seed): \(mean)")
        #expect(mean <= Double(rate), "seed \(seed): \(mean)")
        #expect(line.worst <= Double(rate) * 1.05, "seed \(seed): \(line.worst)")
    }

    @Test(arguments: UInt64(1)...4) func `killed nodes that come back know nobody at first, and the line is kept`(seed: UInt64) {
        var line = Line(seed: seed, delays: 20...400)
        for id in 0..<8 {
            line.nodes[id] = Line.Node(since: 0)
            line.nodes[id]!.wants = LineDemand(.background)
        }
        var next = 8
        while line.now < 120_000 {
            // Every twelve seconds two are killed at one moment, and come back three seconds later under the same or another name.
            if line.now % 12_000 == 6_000 {
                for id in line.nodes.keys.sorted().filter({ line.nodes[$0]!.diedAt == nil }).prefix(2) { line.nodes[id]!.diedAt = line.now }
            }
            if line.now % 12_000 == 9_000 {
                for _ in 0..<2 {
                    let blind = line.now + Int.random(in: 100...1_500, using: &line.generator)
                    line.nodes[next] = Line.Node(
                        budget: LineBudget(cameAt: .milliseconds(line.now)), wants: LineDemand(.background), since: line.now,
                        isBlindUntil: blind)
                    next += 1
                }
            }
            line.step()
        }
        #expect(line.worst <= Double(rate) * 1.02, "seed \(seed): \(line.worst)")
    }

    @Test(arguments: UInt64(1)...3) func `with news that travel at once the line is never exceeded`(seed: UInt64) {
        var line = Line(seed: seed, delays: 0...0)
        for id in 0..<8 { line.nodes[id] = Line.Node(since: 0) }
        while line.now < 30_000 {
            for id in 0..<8 where line.chance(0.02) { line.nodes[id]!.wants = line.chance(0.3) ? .none : LineDemand(.background) }
            line.step()
        }
        #expect(line.flow.max()! <= Double(total) * 1.001)
    }

    @Test func `a reader gets the line from the prefetches of others`() {
        var line = Line(seed: 1, delays: 0...10)
        for id in 0..<4 {
            line.nodes[id] = Line.Node(since: 0)
            line.nodes[id]!.wants = LineDemand(.background)
        }
        for _ in 0..<40 { line.step() }
        line.nodes[2]!.wants = LineDemand(.foreground)
        for _ in 0..<12 { line.step() }
        #expect(line.nodes[2]!.budget.share >= total - 8)
        #expect([0, 1, 3].allSatisfy { line.nodes[$0]!.budget.share == 0 })
        line.nodes[2]!.wants = .none
        for _ in 0..<12 { line.step() }
        #expect([0, 1, 3].allSatisfy { line.nodes[$0]!.budget.share >= total / 3 - 8 })
    }
}
