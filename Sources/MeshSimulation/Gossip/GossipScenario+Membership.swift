internal import Gossip
internal import MeshKeys

package struct BootResult: Sendable, Encodable {
    /// Until a node knew all others; each from the moment when the first one started.
    package var known: Spread
    /// Until all knew all; `nil`: not within the time that was given.
    package var all: Double?
    package var bytesPerNode: Double
    package var streamBytesPerNode: Double
}

package struct DetectionResult: Sendable, Encodable {
    package var kills = 0
    /// Until a member knew the node as dead, of all members and kills.
    package var members: Spread
    /// Until the last member knew, of all kills.
    package var last: Spread
    /// Members that did not know after 60 s.
    package var missed = 0
    package var falseDeaths = 0
}

package struct QuietResult: Sendable, Encodable {
    package var seconds: Double
    package var suspicions: Int
    package var refutations: UInt64
    package var falseDeaths: Int
    package var bytesPerNodeAndSecond: Spread
    package var datagramsPerNodeAndSecond: Double
}

extension GossipScenario {
    /// All nodes start within `spread` and ask node 0, which is one of them.
    package func boot(spread: UInt64 = .second, within limit: UInt64 = 300 * .second) -> BootResult {
        var site = simulator()
        let start = site.now
        var times: [Double] = []
        var known: Set<Int> = []
        var started = 1
        let step: UInt64 = 50 * .millisecond
        while known.count < nodes, site.now < start + limit {
            let due = min(nodes, 1 + Int(UInt64(nodes) * (site.now - start + step) / spread))
            while started < due {
                site.with(started) { $0.join([GossipSimulator.address(0)], now: $1) }
                started += 1
            }
            site.run(for: step)
            for i in site.nodes.indices where site.nodes[i].machine.liveCount == nodes - 1 && known.insert(i).inserted {
                times.append((site.now - start).seconds)
            }
        }
        return BootResult(
            known: Spread(times), all: known.count == nodes ? (site.now - start).seconds : nil,
            bytesPerNode: Double(site.nodes.reduce(0) { $0 + $1.bytesSent }) / Double(nodes),
            streamBytesPerNode: Double(site.nodes.reduce(0) { $0 + $1.streamBytesSent }) / Double(nodes))
    }

    /// Nodes are killed one after the other, ten seconds and more apart, and each time it is looked when the others know.
    package func detect(kills: Int) -> DetectionResult {
        var site = settled()
        site.keeps = { if case .dead = $0 { true } else { false } }
        var random = SplitMix64(seed: seed &+ 1_000)
        var (members, lasts): ([Double], [Double]) = ([], [])
        var (missed, falseDeaths) = (0, 0)
        for _ in 0..<kills {
            site.run(for: 10 * .second + UInt64.random(in: 0..<(2 * .second), using: &random))
            let victim = site.running.randomElement(using: &random) ?? 0
            let id = GossipSimulator.id(victim)
            let first = site.events.count
            site.crash(victim)
            let killed = site.now
            let others = site.running
            _ = site.run(within: 60 * .second) { site in others.allSatisfy { site.nodes[$0].machine.members[id]?.state == .dead } }
            var heard: Set<Int> = []
            for (time, node, event) in site.events[first...] {
                guard case .dead(let member) = event else { continue }
                if member.id == id { heard.insert(node) } else { falseDeaths += 1 }
                if member.id == id { members.append((time - killed).seconds) }
            }
            missed += others.count - heard.count
            lasts.append((site.now - killed).seconds)
        }
        return DetectionResult(kills: kills, members: Spread(members), last: Spread(lasts), missed: missed, falseDeaths: falseDeaths)
    }

    /// A settled site that is left alone.
    package func quiet(for time: UInt64) -> QuietResult {
        var site = settled()
        site.keeps = { event in
            switch event {
            case .dead, .suspect: true
            default: false
            }
        }
        return observe(&site, for: time) { site in site.run(for: time) }
    }

    func observe(_ site: inout GossipSimulator, for time: UInt64, _ run: (inout GossipSimulator) -> Void) -> QuietResult {
        let before = site.nodes.map { $0.bytesSent + $0.streamBytesSent }
        let datagrams = site.nodes.reduce(0) { $0 + $1.datagramsSent }
        let refutations = site.nodes.reduce(0) { $0 + $1.machine.counters.refutations }
        let first = site.events.count
        run(&site)
        let (suspicions, deaths) = site.events[first...].reduce(into: (0, 0)) { counts, entry in
            switch entry.event {
            case .suspect: counts.0 += 1
            case .dead: counts.1 += 1
            default: break
            }
        }
        let rates = zip(site.nodes, before).map { Double($0.bytesSent + $0.streamBytesSent - $1) / time.seconds }
        let sent = site.nodes.reduce(0) { $0 + $1.datagramsSent } - datagrams
        return QuietResult(
            seconds: time.seconds, suspicions: suspicions,
            refutations: site.nodes.reduce(0) { $0 + $1.machine.counters.refutations } - refutations, falseDeaths: deaths,
            bytesPerNodeAndSecond: Spread(rates), datagramsPerNodeAndSecond: Double(sent) / time.seconds / Double(nodes))
    }
}
