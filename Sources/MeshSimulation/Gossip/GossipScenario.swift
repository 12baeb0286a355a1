package import Gossip

/// A site of many nodes whose gossip is asked about. Times of results are seconds, sizes bytes.
package struct GossipScenario: Sendable {
    package var nodes = 1_000
    package var seed: UInt64 = 1
    /// Per mille of datagrams.
    package var loss = 0
    /// Each node's port, each way: a gigabit.
    package var portBytesPerSecond: UInt64 = 125_000_000
    package var delay: ClosedRange<UInt64> = 200_000...2_000_000
    package var configuration = GossipConfiguration()

    package init() {}

    func network() -> GossipSimulator.Network {
        .init(loss: loss, delay: delay, portBytesPerSecond: portBytesPerSecond)
    }

    func simulator() -> GossipSimulator {
        GossipSimulator(count: nodes, seed: seed, network: network(), configuration: configuration)
    }

    /// A site that has run for a while: all know each other, and nothing is left to tell.
    func settled() -> GossipSimulator {
        var site = simulator()
        // The first hears of all; the others ask it. Without loss, which would make it longer only.
        site.network.lan.loss = 0
        site.keeps = { _ in false }
        for i in site.nodes.indices.dropFirst() {
            let (announcement, address) = (site.nodes[i].machine.announcement(), site.nodes[i].address)
            site.with(0) { $0.receive(announcement, from: address, now: $1) }
        }
        site.joinAll()
        let nodes = nodes
        _ = site.run(within: 600 * .second, step: .second) { site in
            site.nodes.allSatisfy { $0.machine.liveCount == nodes - 1 && !$0.machine.hasNews }
        }
        site.network.lan.loss = loss
        return site
    }
}

/// How figures of many nodes, or of many runs, are spread.
package struct Spread: Sendable, Encodable {
    package var least = 0.0
    package var p50 = 0.0
    package var p95 = 0.0
    package var most = 0.0

    package init(_ values: [Double]) {
        guard !values.isEmpty else { return }
        let sorted = values.sorted()
        func at(_ share: Double) -> Double { sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))] }
        (least, p50, p95, most) = (sorted[0], at(0.5), at(0.95), sorted[sorted.count - 1])
    }
}

extension UInt64 {
    /// Of nanoseconds.
    var seconds: Double { Double(self) / 1e9 }
}
