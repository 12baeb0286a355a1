internal import ChunkModel
internal import Gossip
internal import MeshKeys

package struct AvailabilityResult: Sendable, Encodable {
    /// From a change until another node knew of it, of sampled changes and all nodes.
    package var heard: Spread
    /// Of sampled changes, those that not all nodes knew of at the end.
    package var unheard: Int
    /// From the last change until all nodes knew exactly what all others hold; `nil`: not within five minutes.
    package var exactAfter: Double?
    package var traffic: QuietResult
}

package struct JoinResult: Sendable, Encodable {
    package var chunks: Int
    package var runs: Int
    /// Until all others knew that it is there and what it holds.
    package var known: Spread
    /// Others that did not know within a minute.
    package var missed: Int
    /// Until it knew all others, in the slowest run; `nil`: not within a minute.
    package var knows: Double?
    package var streamBytesPerNode: Double
}

extension GossipScenario {
    static let digest = FlistDigest(Bytes32.zero)

    /// Nodes change what they hold for `time`.
    /// - Parameters:
    ///   - changing: nodes that do, per mille of all.
    ///   - every: from one change of such a node to its next. Each change is a run of three chunks.
    package func availability(changing: Int = 1_000, every: UInt64, for time: UInt64, chunks: Int = 20_000) -> AvailabilityResult {
        var site = settled()
        site.keeps = { event in
            switch event {
            case .dead, .suspect: true
            default: false
            }
        }
        let digest = Self.digest
        for i in site.nodes.indices { site.edit(i) { $0.publishFlist(digest, chunkCount: chunks) } }
        _ = site.run(within: 300 * .second, step: .second) { site in
            site.nodes.allSatisfy { $0.machine.publishers(of: digest).count == site.nodes.count && !$0.machine.hasNews }
        }
        var random = SplitMix64(seed: seed &+ 3)
        let changers = site.nodes.indices.filter { _ in Int.random(in: 0..<1_000, using: &random) < changing }
        // Each has its own place in the period, and fills the flist from the front, as a prefetch does.
        var changes: [(at: UInt64, node: Int, chunk: Int)] = []
        for node in changers {
            var at = site.now + UInt64.random(in: 0..<every, using: &random)
            var chunk = 0
            while at < site.now + time {
                changes.append((at, node, chunk))
                at += every
                chunk += 3
            }
        }
        changes.sort { ($0.at, $0.node) < ($1.at, $1.node) }
        // Watched from after a third of the time, when the flow is steady.
        var watched: [(at: UInt64, node: Int, chunk: Int, heard: Set<Int>)] = []
        var times: [Double] = []
        let watchEvery = max(1, changes.count / 40)
        let watchFrom = site.now + time / 3
        func look(_ site: GossipSimulator) {
            for w in watched.indices where watched[w].heard.count < site.nodes.count {
                let id = GossipSimulator.id(watched[w].node)
                for i in site.nodes.indices where !watched[w].heard.contains(i) {
                    guard i == watched[w].node || site.nodes[i].machine.bitmap(of: id, digest)?.contains(watched[w].chunk) == true else {
                        continue
                    }
                    watched[w].heard.insert(i)
                    if i != watched[w].node { times.append((site.now - watched[w].at).seconds) }
                }
            }
        }
        let traffic = observe(&site, for: time) { site in
            let end = site.now + time
            var next = 0
            while site.now < end {
                let step = min(end, site.now + 100 * .millisecond)
                while next < changes.count, changes[next].at < step {
                    let change = changes[next]
                    site.run(until: change.at)
                    site.edit(change.node) { $0.setHave(digest, change.chunk..<min(change.chunk + 3, chunks)) }
                    if change.at > watchFrom, next % watchEvery == 0 { watched.append((change.at, change.node, change.chunk, [])) }
                    next += 1
                }
                site.run(until: step)
                look(site)
            }
        }
        let unheard = watched.count { $0.heard.count < site.nodes.count }
        let exact = site.run(within: 300 * .second, step: .second) { site in
            changers.allSatisfy { changer in
                let id = GossipSimulator.id(changer)
                let truth = site.nodes[changer].machine.bitmap(of: id, digest)
                return site.nodes.allSatisfy { $0.machine.bitmap(of: id, digest) == truth }
            }
        }
        return AvailabilityResult(heard: Spread(times), unheard: unheard, exactAfter: exact?.seconds, traffic: traffic)
    }

    /// A node joins that holds every second one of `chunks` chunks, the largest bitmap that there is.
    package func join(chunks: Int, runs: Int) -> JoinResult {
        var site = settled()
        site.keeps = { _ in false }
        let digest = Self.digest
        var (known, knows, missed): ([Double], Double?, Int) = ([], 0, 0)
        let before = site.nodes.reduce(0) { $0 + $1.streamBytesSent }
        for run in 0..<runs {
            let joiner = nodes - 1 - run
            site.crash(joiner)
            site.run(for: 30 * .second)
            let start = site.now
            site.restart(joiner, joining: 0)
            site.edit(joiner) {
                $0.publishFlist(digest, chunkCount: chunks)
                $0.setHave(digest, stride(from: run & 1, to: chunks, by: 2))
            }
            let id = GossipSimulator.id(joiner)
            let truth = site.nodes[joiner].machine.bitmap(of: id, digest)
            let others = site.running.filter { $0 != joiner }
            var heard: Set<Int> = []
            var knew: UInt64?
            _ = site.run(within: 60 * .second) { site in
                for i in others where !heard.contains(i) && site.nodes[i].machine.bitmap(of: id, digest) == truth {
                    heard.insert(i)
                    known.append((site.now - start).seconds)
                }
                if knew == nil, site.nodes[joiner].machine.liveCount == others.count { knew = site.now - start }
                return heard.count == others.count && knew != nil
            }
            missed += others.count - heard.count
            knows = knew.flatMap { time in knows.map { max($0, time.seconds) } }
            site.run(for: 5 * .second)
        }
        let sent = site.nodes.reduce(0) { $0 + $1.streamBytesSent } - before
        return JoinResult(
            chunks: chunks, runs: runs, known: Spread(known), missed: missed, knows: knows,
            streamBytesPerNode: Double(sent) / Double(max(runs, 1)) / Double(nodes))
    }
}
