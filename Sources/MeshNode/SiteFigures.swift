internal import ControlModel
internal import Gossip
internal import GossipTransport
internal import MeshKeys
internal import PeerExchange

/// Figures of the other sites.
extension MeshNode {
    func otherSites(_ traffic: [NodeID: PeerTraffic]) -> [Peers.Site] {
        let allowance = parts.sites.allowance
        let flists = parts.flists.all.map(\.record.digest)
        return parts.gossip.read { machine, _ in
            machine.otherSites.map { site in
                let bytes = site.known.compactMap { traffic[$0] }
                return Peers.Site(
                    name: site.name, gateways: site.gateways.map { .init(id: $0.id.hex, address: "\($0.address)") }, nodes: site.nodes,
                    flists: site.flists, chunks: flists.reduce(0) { $0 + (machine.siteBitmap(of: site.name, $1)?.population ?? 0) },
                    rttMs: site.roundTrip.map { Double($0) / 1e6 },
                    bytesFrom: bytes.reduce(0) { $0.addingSaturated($1.bytesIn) },
                    bytesTo: bytes.reduce(0) { $0.addingSaturated($1.bytesOut) },
                    reachable: site.isReachable, allowed: allowance.allows(site.name))
            }
        }
    }

    func siteMetrics(_ text: inout MetricsText) {
        let sites = otherSites(exchange.traffic)
        text.gauge(
            "site_is_gateway", "1 while this node speaks for its site.", parts.gossip.read { machine, _ in machine.isGateway } ? 1 : 0)
        let families: [(name: String, type: String, help: String, value: (Peers.Site) -> Double)] = [
            ("other_site_up", "gauge", "1 when the other site answered lately.", { $0.reachable ? 1 : 0 }),
            ("other_site_nodes", "gauge", "Live nodes of the other site.", { Double($0.nodes) }),
            ("other_site_received_bytes_total", "counter", "Bytes received from the other site's gateways.", { Double($0.bytesFrom) }),
            ("other_site_sent_bytes_total", "counter", "Bytes sent to the other site's gateways.", { Double($0.bytesTo) }),
        ]
        for family in families {
            text.family(family.name, family.type, family.help)
            for site in sites { text.value(family.name, family.value(site), labels: ["other": site.name]) }
        }
        text.family("other_site_rtt_seconds", "gauge", "Round trip to the other site's gateways.")
        for site in sites {
            if let time = site.rttMs { text.value("other_site_rtt_seconds", time / 1000, labels: ["other": site.name]) }
        }
    }
}
