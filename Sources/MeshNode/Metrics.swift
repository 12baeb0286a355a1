internal import ChunkStore
internal import ControlModel
internal import FetchPlanner
internal import Gossip
internal import GossipTransport
internal import Synchronization
internal import UpstreamStores

/// Figures in Prometheus' text format; all names begin with `chunkmesh_`.
extension MeshNode {
    public func metrics() async -> String {
        let stats = await stats()
        let values = parts.counters.snapshot
        let upstream = upstreamCounters.snapshot
        let gossip = parts.gossip.counters()
        let planner = fetcher.state.withLock { ($0.planner.wantCount, $0.planner.upstreamCount) }
        var text = MetricsText()
        text.gauge("cache_bytes", "Stored bytes of chunks in the cache.", Double(stats.cache.bytes))
        text.gauge("cache_max_bytes", "The cache's quota.", Double(stats.cache.maxBytes))
        text.gauge("cache_chunks", "Chunks in the cache.", Double(stats.cache.chunks))
        text.counter("cache_evicted_total", "Chunks evicted.", stats.cache.evictedChunks)
        text.counter("cache_not_stored_total", "Chunks used without being stored.", values.notStored)
        text.counter(
            "cache_vanished_total", "Chunks whose files were gone or changed when they were needed.",
            UInt64(parts.store.statistics.vanished))
        text.family("chunks_total", "counter", "Chunks by where they came from.")
        for (origin, source) in [
            ("local", values.local), ("peers", values.peers), ("sites", values.sites), ("upstream", values.upstream),
        ] {
            text.value("chunks_total", Double(source.chunks), labels: ["origin": origin])
        }
        text.family("chunk_bytes_total", "counter", "Stored bytes of chunks by where they came from.")
        for (origin, source) in [
            ("local", values.local), ("peers", values.peers), ("sites", values.sites), ("upstream", values.upstream),
        ] {
            text.value("chunk_bytes_total", Double(source.bytes), labels: ["origin": origin])
        }
        text.counter("peer_sent_bytes_total", "Stored bytes of chunks sent to peers.", values.toPeers.bytes)
        text.counter("site_sent_bytes_total", "Stored bytes of chunks sent to other sites.", values.toSites.bytes)
        siteMetrics(&text)
        text.gauge("site_egress_ratio", "Bytes the site pulled from upstream per unique byte.", stats.site.egressRatio)
        text.family("verify_failed_total", "counter", "Chunks whose bytes did not match their id.")
        text.value("verify_failed_total", Double(values.verifyFailedPeers), labels: ["origin": "peers"])
        text.value("verify_failed_total", Double(values.verifyFailedUpstream), labels: ["origin": "upstream"])
        text.value("verify_failed_total", Double(parts.store.statistics.torn), labels: ["origin": "disk"])
        text.counter("peer_failures_total", "Requests to peers that failed or timed out.", values.peerFailures)
        text.family("upstream_failures_total", "counter", "Requests to upstream that failed, by kind.")
        for kind in UpstreamFailureKind.allCases {
            text.value("upstream_failures_total", Double(upstream.failures[kind] ?? 0), labels: ["kind": kind.rawValue])
        }
        text.counter("upstream_requests_total", "Requests to upstream.", UInt64(clamping: upstream.requests))
        text.counter("upstream_connections_total", "Connections opened to upstream.", UInt64(clamping: upstream.connections))
        text.counter("upstream_retries_total", "Requests to upstream that were repeated.", UInt64(clamping: upstream.retries))
        upstreamMetrics(stats.upstreams, &text)
        decodedMetrics(&text)
        lineMetrics(stats.line, &text)
        text.gauge("wanted_chunks", "Chunks that somebody waits for.", Double(planner.0))
        text.gauge("upstream_active", "Chunks being fetched from upstream.", Double(planner.1))
        text.family("members", "gauge", "Nodes of the mesh, this one not counted, by state.")
        let members = parts.gossip.members()
        for state in [Peers.Peer.State.alive, .suspect, .dead, .left] {
            text.value("members", Double(members.count { $0.state.shown == state }), labels: ["state": state.rawValue])
        }
        text.counter("gossip_sent_bytes_total", "Bytes of gossip datagrams sent.", gossip.transport.bytesSent)
        text.counter("gossip_received_bytes_total", "Bytes of gossip datagrams received.", gossip.transport.bytesReceived)
        text.family("gossip_dropped_total", "counter", "Gossip datagrams dropped, by reason.")
        for (reason, count) in [
            ("foreign", gossip.transport.foreign), ("limited", gossip.transport.limited), ("replayed", gossip.transport.replayed),
            ("malformed", gossip.machine.malformed), ("version", gossip.machine.otherVersion),
        ] {
            text.value("gossip_dropped_total", Double(count), labels: ["reason": reason])
        }
        text.family("refused_total", "counter", "Refused of those who are not of this mesh, or not as they should be, by what.")
        for (what, count) in [
            ("connection", stats.strangers.refusedConnections), ("forged_record", stats.strangers.forgedRecords),
            ("not_member", stats.strangers.notMembers), ("flood", stats.strangers.floodedDatagrams),
            ("limited_request", stats.strangers.limitedRequests),
        ] {
            text.value("refused_total", Double(count), labels: ["what": what])
        }
        text.counter("gossip_probes_failed_total", "Probes that nobody answered in time.", gossip.machine.probesFailed)
        text.counter("gossip_stream_probes_total", "Suspects asked over TCP, since no datagram came back.", gossip.machine.streamProbes)
        text.counter("gossip_refutations_total", "Times that this node was doubted and said that it lives.", gossip.machine.refutations)
        text.counter(
            "gossip_identity_conflicts_total", "Messages under one identity that came from two machines.",
            gossip.machine.identityConflicts)
        text.counter("standstills_total", "Times that the process stood still for seconds.", parts.standstill.count)
        text.counter("log_left_out_total", "Log lines left out because their like had been written often enough.", RepeatLimit.leftOut)
        text.gauge("uptime_seconds", "Seconds since the daemon started.", stats.uptimeSeconds)
        return text.text
    }
}

/// Builds the text, each family with its help once.
struct MetricsText {
    private(set) var text = ""

    mutating func family(_ name: String, _ type: String, _ help: String) {
        text += "# HELP chunkmesh_\(name) \(help)\n# TYPE chunkmesh_\(name) \(type)\n"
    }

    mutating func value(_ name: String, _ value: Double, labels: KeyValuePairs<String, String> = [:]) {
        let shown = value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)
        let list = labels.map { "\($0.key)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",")
        text += "chunkmesh_\(name)\(list.isEmpty ? "" : "{\(list)}") \(shown)\n"
    }

    /// As the text format writes a label's value.
    private static func escaped(_ value: String) -> String {
        var out = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\", "\"": out += "\\\(scalar)"
            case "\n": out += "\\n"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }

    mutating func gauge(_ name: String, _ help: String, _ number: Double) {
        family(name, "gauge", help)
        value(name, number)
    }

    mutating func counter(_ name: String, _ help: String, _ number: UInt64) {
        family(name, "counter", help)
        value(name, Double(number))
    }
}
