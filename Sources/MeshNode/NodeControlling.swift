internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
public import ControlModel
internal import FetchPlanner
internal import Flist
internal import Glibc
internal import Gossip
internal import GossipTransport
internal import MeshKeys
internal import NodeConfiguration
internal import PeerExchange
internal import Synchronization
internal import UpstreamStores

/// The node as its API sees it: figures.
extension MeshNode: NodeControl {
    public func stats() async -> Stats {
        let values = parts.counters.snapshot
        let store = parts.store.statistics
        let upstream = upstreamCounters.snapshot
        let traffic = exchange.traffic
        let site = await parts.threads.run { [self] in siteFigures() }
        return Stats(
            name: configuration.node.name, siteName: configuration.node.site, id: parts.identity.id.hex, version: Self.version,
            uptimeSeconds: parts.clock.now.seconds,
            cache: .init(
                bytes: UInt64(clamping: store.bytes), chunks: store.chunks, maxBytes: UInt64(clamping: store.maxBytes),
                pinnedBytes: UInt64(clamping: store.pinnedBytes), evictedChunks: UInt64(clamping: store.evicted),
                notStoredChunks: values.notStored),
            chunks: .init(
                fromLocal: values.local.chunks, fromPeers: values.peers.chunks, fromUpstream: values.upstream.chunks,
                toPeers: values.toPeers.chunks, fromSites: values.sites.chunks, toSites: values.toSites.chunks),
            bytes: .init(
                fromLocal: values.local.bytes, fromPeers: values.peers.bytes, fromUpstream: values.upstream.bytes,
                toPeers: values.toPeers.bytes, fromSites: values.sites.bytes, toSites: values.toSites.bytes),
            site: site,
            errors: .init(
                verifyFailed: values.verifyFailedPeers + values.verifyFailedUpstream + UInt64(clamping: store.torn),
                peerTimeouts: traffic.values.reduce(0) { $0 + $1.failures + $1.timeouts },
                upstreamErrors: UInt64(clamping: upstream.failureCount)),
            upstreams: upstreams, line: parts.line.shown(name: configuration.node.name), strangers: strangerFigures(traffic),
            decoded: decodedFigures)
    }

    private func strangerFigures(_ traffic: [NodeID: PeerTraffic]) -> Stats.Strangers {
        let gossip = parts.gossip.counters()
        let doors = exchange.strangers
        var out = Stats.Strangers()
        out.foreignDatagrams = gossip.transport.foreign
        out.limitedDatagrams = gossip.transport.limited
        out.replayedDatagrams = gossip.transport.replayed
        out.floodedDatagrams = gossip.transport.flooded
        out.forgedRecords = gossip.machine.forged
        out.refusedConnections = doors.notOpened &+ doors.replayed &+ doors.unproven &+ doors.crowded
        out.notMembers = gossip.machine.notAdmitted &+ doors.notAdmitted
        out.limitedRequests = traffic.values.reduce(0) { $0 &+ $1.limited }
        return out
    }

    /// Unique bytes are counted with the sizes of the chunks that are here; for others with the mean of those.
    private func siteFigures() -> Stats.Site {
        let members = parts.gossip.siteMembers
        let pulled = parts.upstreamPulled(by: members)
        var unique: UInt64 = 0
        var seen: Set<ChunkID> = []
        let several = parts.flists.all.count > 1
        for entry in parts.flists.all {
            let copies = parts.gossip.read { machine, _ in machine.copies(of: entry.record.digest) } ?? []
            let known = sizes(of: entry.flist)
            for (index, count) in copies.enumerated() where count > 0 && index < entry.flist.chunks.count {
                if several, !seen.insert(entry.flist.chunks[index]).inserted { continue }
                unique += UInt64(parts.store.size(of: entry.flist.chunks[index]) ?? known.mean)
            }
        }
        let bytes = parts.counters.snapshot.upstream.bytes.addingSaturated(pulled)
        let ratio = unique == 0 ? 0 : Double(bytes) / Double(unique)
        return .init(egressRatio: (ratio * 10000).rounded() / 10000, upstreamBytes: bytes, uniqueBytes: unique, nodes: members.count + 1)
    }

    /// Held chunks, their stored bytes, and the mean size.
    func sizes(of flist: OpenFlist) -> (chunks: Int, bytes: UInt64, mean: Int) {
        var chunks = 0
        var bytes: UInt64 = 0
        for chunk in flist.chunks {
            guard let size = parts.store.size(of: chunk) else { continue }
            chunks += 1
            bytes += UInt64(size)
        }
        return (chunks, bytes, chunks == 0 ? ChunkLimits.blockBytes : Int(bytes) / chunks)
    }

    public func peers() async -> Peers {
        let traffic = exchange.traffic
        let blame = parts.counters.snapshot.blame
        let now = parts.clock.now
        let shunned = fetcher.state.withLock { state in
            Set(parts.gossip.members().map(\.id).filter { state.planner.isShunned($0, now: now) })
        }
        let list = parts.gossip.members().filter { $0.id != parts.identity.id }.map { member in
            let bytes = traffic[member.id]
            let chunks = parts.gossip.read { machine, _ in
                parts.flists.all.reduce(0) { $0 + (machine.bitmap(of: member.id, $1.record.digest)?.population ?? 0) }
            }
            return Peers.Peer(
                name: member.name, id: member.id.hex, site: member.site, address: "\(member.address)", state: member.state.shown,
                rttMs: member.roundTrip.map { Double($0) / 1e6 }, chunks: chunks, bytesFrom: bytes?.bytesIn ?? 0,
                bytesTo: bytes?.bytesOut ?? 0,
                verifyFailed: blame[member.id] ?? 0, shunned: shunned.contains(member.id), limited: bytes?.limited ?? 0)
        }
        return Peers(peers: list.sorted { ($0.name, $0.id) < ($1.name, $1.id) }, sites: otherSites(traffic))
    }

    public func status(of flist: String?) async throws(NodeError) -> Status {
        var entries = parts.flists.all
        if let flist { entries = [try await known(flist)] }
        let shown = await parts.threads.run { [self, entries] in entries.map(status) }
        let digests = Set(entries.map(\.record.digest.hex))
        return Status(flists: shown, jobs: prefetcher.jobs.filter { flist == nil || digests.contains($0.digest) })
    }

    func upstreamStatus(_ flist: FlistDigest) -> Status.Flist.Upstream {
        guard parts.upstream.hasWay(for: flist) else {
            return .init(reachable: false, error: "the flist has no route that may be used on this node")
        }
        guard let trouble = parts.upstream.trouble(of: flist) else { return .init(reachable: true) }
        let (now, clock) = (Int64(time(nil)), parts.clock.now)
        return .init(
            reachable: false, since: now - (clock - trouble.since).components.seconds,
            lastTried: now - (clock - trouble.tried).components.seconds, error: trouble.reason)
    }

    public func notReady() async -> String? { isRestored.value ? nil : "opening the flists of the last run" }

    /// By name, digest or URL, or as the file that it was made known by.
    func known(_ name: String) async throws(NodeError) -> FlistTable.Entry {
        var found = parts.flists.find(name) ?? parts.flists.find(url: name)
        if found == nil, name.hasPrefix("/") {
            let digest = await parts.threads.run { try? FlistFiles.digest(of: name) }
            found = digest.flatMap { parts.flists.entry($0) }
        }
        guard let entry = found else {
            throw .notFound("no flist is known as \(name); chunkmesh status shows those that are, prefetch makes one known")
        }
        return entry
    }
}

extension NodeParts {
    /// What other nodes of the site pulled from upstream, those that have gone since included as far as they told.
    func upstreamPulled(by members: [Member]) -> UInt64 {
        gossip.read { machine, _ in
            members.reduce(0) {
                $0.addingSaturated(machine.profile(of: $1.id)?.upstreamBytes ?? 0)
            }
        }
    }
}

extension UInt64 {
    /// What others claim may be any number.
    func addingSaturated(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}

extension MemberState {
    var shown: Peers.Peer.State {
        switch self {
        case .alive: .alive
        case .suspect: .suspect
        case .dead: .dead
        case .left: .left
        }
    }
}
