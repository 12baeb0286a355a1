import ArgumentParser
import ControlClient
import ControlModel
import Glibc

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows which flists are complete on this node and at this site, and the jobs.")

    @Argument(help: "Only this one.") var flist: String?
    @OptionGroup var options: APIOptions

    func run() throws {
        let query = flist.map { "?flist=" + ControlClient.escape(path: Array(FlistName.forDaemon($0).utf8)) } ?? ""
        let status: Status = try options.client().get("/v1/status" + query)
        if options.json { return try Terminal.json(status) }
        if status.flists.isEmpty { return Terminal.out("no flist is known yet; chunkmesh prefetch FLIST makes one known") }
        Terminal.table(
            ["FLIST", "DIGEST", "CHUNKS", "BYTES", "NODE", "SITE", "MIN COPIES", "PINNED"],
            status.flists.map { flist in
                [
                    Terminal.quoted(flist.name), String(flist.digest.prefix(12)), "\(flist.chunks)", Terminal.size(flist.bytes),
                    part(flist.node.chunks, flist.chunks, flist.node.complete), part(flist.site.chunks, flist.chunks, flist.site.complete),
                    "\(flist.site.minCopies)", flist.pinned ? "yes" : "no",
                ]
            }, rightAligned: [2, 3, 4, 5, 6])
        for flist in status.flists { for line in notes(on: flist) { Terminal.out("\(Terminal.quoted(flist.name)): \(line)") } }
        for job in status.jobs where job.state == .running {
            let error = job.error.map { "; " + Terminal.quoted($0) } ?? ""
            Terminal.out(
                "job \(job.id): \(Terminal.quoted(job.flist)), scope \(job.scope.rawValue), \(job.doneChunks) of \(job.chunks) chunks\(error)"
            )
        }
    }

    /// Who signed it; what is missing, and when it can come.
    private func notes(on flist: Status.Flist) -> [String] {
        var lines: [String] = []
        if let signer = flist.signature {
            lines.append("signed with the key " + Signer.line(signer))
        }
        if let line = rarest(flist.site) { lines.append(line) }
        if let goal = flist.goal { lines.append(line(goal, of: flist)) }
        let upstream = flist.upstream
        // What the site holds needs no upstream; one that was wanted and did not answer is told all the same.
        guard upstream.since != nil || !flist.site.complete else { return lines }
        let here =
            flist.node.complete ? "this node holds all of it" : "\(flist.node.missing) of \(flist.chunks) chunks are missing on this node"
        lines.append(here + (flist.site.complete ? ", the site holds all of it" : ", \(flist.site.missing) at this site"))
        guard !upstream.reachable else { return lines }
        let error = upstream.error.map { ": " + Terminal.quoted($0) } ?? ""
        if let since = upstream.since {
            let tried = upstream.lastTried.map { ", last tried \(Self.ago($0))" } ?? ""
            lines.append(
                "upstream does not answer, first failed \(Self.ago(since))\(tried)\(error); fetches go on by themselves when it does")
        } else {
            lines.append("no upstream\(error)")
        }
        return lines
    }

    /// Which chunk would be missed first.
    private func rarest(_ site: Status.Flist.Site) -> String? {
        guard let rarest = site.rarest, rarest.copies > 0 else { return nil }
        let nodes = rarest.nodes.map { Terminal.quoted($0.name) }.joined(separator: ", ")
        let copies = rarest.copies == 1 ? "1 copy" : "\(rarest.copies) copies"
        return "rarest chunk \(rarest.chunk.prefix(12)): \(copies), on \(nodes); \(rarest.chunks) chunks have no more"
    }

    private func line(_ goal: Status.Flist.Goal, of flist: Status.Flist) -> String {
        let state =
            switch goal.state {
            case .opening: "this node does not have the flist yet"
            case .filling: "they are being made"
            case .kept: "all chunks have them"
            case .waiting: "\(flist.chunks - goal.keptChunks) chunks have fewer; waiting for the nodes that had them"
            case .restoring: "\(flist.chunks - goal.keptChunks) chunks have fewer; copies are being made"
            case .short: "all chunks have as many as there are nodes"
            }
        return "the site keeps \(goal.copies) copies (\(goal.nodes) nodes): \(state)" + (goal.note.map { "; " + Terminal.quoted($0) } ?? "")
    }

    private static func ago(_ seconds: Int64) -> String {
        let passed = max(0, Int64(time(nil)) - seconds)
        switch passed {
        case ..<120: return "\(passed) s ago"
        case ..<7200: return "\(passed / 60) min ago"
        case ..<172_800: return "\(passed / 3600) h ago"
        default: return "\(passed / 86400) days ago"
        }
    }

    private func part(_ chunks: Int, _ all: Int, _ complete: Bool) -> String {
        complete ? "complete" : "\(all == 0 ? 0 : chunks * 100 / all) %"
    }
}

struct StatsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats", abstract: "Shows what this node moved, and the site's egress ratio.")

    @Flag(help: "Again every second, until interrupted.") var watch = false
    @OptionGroup var options: APIOptions

    func run() throws {
        let client = try options.client()
        while true {
            let stats: Stats = try client.get("/v1/stats")
            if options.json {
                try Terminal.json(stats)
            } else {
                if watch, isatty(1) == 1 { Terminal.write(1, Array("\u{1b}[H\u{1b}[2J".utf8)) }
                show(stats)
            }
            guard watch else { return }
            sleep(1)
        }
    }

    private func show(_ stats: Stats) {
        Terminal.out("\(Terminal.quoted(stats.name)) at site \(Terminal.quoted(stats.siteName)), up \(Int(stats.uptimeSeconds)) s")
        Terminal.out("id         \(stats.id)")
        Terminal.out(
            "cache      \(stats.cache.chunks) chunks, \(Terminal.size(stats.cache.bytes)) of \(Terminal.size(stats.cache.maxBytes))")
        if let decoded = stats.decoded, decoded.maxBytes > 0 {
            Terminal.out(
                "decoded    \(decoded.files) files, \(Terminal.size(decoded.bytes)) of \(Terminal.size(decoded.maxBytes)), \(decoded.hits) reads ready, \(decoded.misses) waited"
            )
        }
        Terminal.out(
            "site       egress ratio \(stats.site.egressRatio) (\(Terminal.size(stats.site.upstreamBytes)) pulled by \(stats.site.nodes) nodes for \(Terminal.size(stats.site.uniqueBytes)))"
        )
        if let line = stats.line { LineCommand.show(line) }
        Terminal.table(
            ["", "LOCAL", "PEERS", "SITES", "UPSTREAM", "TO PEERS", "TO SITES"],
            [
                [
                    "chunks", "\(stats.chunks.fromLocal)", "\(stats.chunks.fromPeers)", "\(stats.chunks.fromSites)",
                    "\(stats.chunks.fromUpstream)", "\(stats.chunks.toPeers)", "\(stats.chunks.toSites)",
                ],
                [
                    "bytes", Terminal.size(stats.bytes.fromLocal), Terminal.size(stats.bytes.fromPeers),
                    Terminal.size(stats.bytes.fromSites), Terminal.size(stats.bytes.fromUpstream),
                    Terminal.size(stats.bytes.toPeers), Terminal.size(stats.bytes.toSites),
                ],
            ], rightAligned: [1, 2, 3, 4, 5, 6])
        Terminal.out(
            "errors     \(stats.errors.verifyFailed) wrong chunks, \(stats.errors.peerTimeouts) failed requests to peers, \(stats.errors.upstreamErrors) to upstream"
        )
        let strangers = stats.strangers
        Terminal.out(
            "strangers  \(strangers.foreignDatagrams + strangers.limitedDatagrams + strangers.replayedDatagrams) datagrams and \(strangers.refusedConnections) connections refused, \(strangers.forgedRecords) forged records, \(strangers.notMembers) times no member, \(strangers.floodedDatagrams + strangers.limitedRequests) put off"
        )
        guard !stats.upstreams.isEmpty else { return }
        Terminal.table(
            ["UPSTREAM", "STATE", "REQUESTS", "BYTES", "MISSING", "FAILED", "WRONG"],
            stats.upstreams.map { upstream in
                [
                    Terminal.quoted(upstream.url), upstream.state, "\(upstream.requests)", Terminal.size(upstream.bytes),
                    "\(upstream.missing)", "\(upstream.failures)", "\(upstream.verifyFailed)",
                ]
            }, rightAligned: [2, 3, 4, 5, 6])
        for upstream in stats.upstreams where upstream.state != "well" {
            if let lastError = upstream.lastError { Terminal.out("last error  \(Terminal.quoted(lastError))") }
        }
    }
}

struct PeersCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peers", abstract: "Shows the other nodes of this site, and the other sites of the mesh.")

    @OptionGroup var options: APIOptions

    func run() throws {
        let peers: Peers = try options.client().get("/v1/peers")
        if options.json { return try Terminal.json(peers) }
        if peers.peers.isEmpty {
            Terminal.out("no peers: this node is alone at its site (is mesh.keyFile the same everywhere, and UDP and TCP 7946 open?)")
            return show(peers.sites)
        }
        Terminal.table(
            ["NAME", "SITE", "ADDRESS", "STATE", "RTT", "CHUNKS", "FROM", "TO", "WRONG", "ID"],
            peers.peers.map { peer in
                [
                    Terminal.quoted(peer.name), Terminal.quoted(peer.site), peer.address,
                    peer.shunned ? "\(peer.state.rawValue), shunned" : peer.state.rawValue,
                    peer.rttMs.map { "\(($0 * 10).rounded() / 10) ms" } ?? "-", "\(peer.chunks)", Terminal.size(peer.bytesFrom),
                    Terminal.size(peer.bytesTo),
                    "\(peer.verifyFailed)", peer.id,
                ]
            }, rightAligned: [4, 5, 6, 7, 8])
        show(peers.sites)
    }

    private func show(_ sites: [Peers.Site]) {
        if sites.isEmpty { return }
        Terminal.out("")
        Terminal.table(
            ["OTHER SITE", "STATE", "NODES", "FLISTS", "RTT", "CHUNKS", "FROM", "TO", "GATEWAYS"],
            sites.map { site in
                [
                    Terminal.quoted(site.name), (site.reachable ? "reachable" : "silent") + (site.allowed ? "" : ", not asked"),
                    "\(site.nodes)", "\(site.flists)", site.rttMs.map { "\(($0 * 10).rounded() / 10) ms" } ?? "-", "\(site.chunks)",
                    Terminal.size(site.bytesFrom), Terminal.size(site.bytesTo), site.gateways.map(\.address).joined(separator: " "),
                ]
            }, rightAligned: [2, 3, 4, 5, 6, 7])
    }
}
