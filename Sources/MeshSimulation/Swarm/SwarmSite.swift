internal import ChunkModel
internal import FetchPlanner
internal import Gossip
internal import MeshKeys

/// Another site, as far as the nodes of a `Swarm` deal with it: gateways that send what their site holds over one shaped line.
final class SwarmSite {
    let gateways: [NodeID]
    let latency: Duration
    let line: SwarmUplink
    /// Chunks that it says it holds, and those that it really does.
    var announced: Set<Int>
    var held: Set<Int>
    /// Gateways, by their place, that refuse connections from a moment on.
    var deadFrom: [Int: Duration] = [:]
    /// How often each chunk began to cross the line.
    private(set) var crossings: [Int: Int] = [:]
    private var transfers: [Int: (chunk: Int, node: SwarmNode, tag: RequestTag)] = [:]

    init(gateways count: Int = 2, holding held: Set<Int>, bytesPerSecond: Double, latency: Duration = .milliseconds(15)) {
        var random = SplitMix64(seed: 0xfeed)
        gateways = (0..<count).map { _ in NodeID((0..<32).map { _ in UInt8.random(in: 0...255, using: &random) })! }
        (self.latency, self.held, announced) = (latency, held, held)
        line = SwarmUplink(bytesPerSecond: bytesPerSecond)
    }

    func ask(_ gateway: NodeID, _ chunk: Int, for node: SwarmNode, _ tag: RequestTag, in swarm: Swarm) {
        guard let place = gateways.firstIndex(of: gateway) else { return }
        swarm.after(latency) {
            if let dead = self.deadFrom[place], dead <= swarm.now { return node.answered(tag, .failed) }
            guard self.held.contains(chunk) else { return swarm.after(self.latency) { node.answered(tag, .missing) } }
            self.crossings[chunk, default: 0] += 1
            self.transfers[self.line.begin(size: swarm.setup.chunkBytes, now: swarm.now)] = (chunk, node, tag)
            self.plan(swarm)
        }
    }

    private func plan(_ swarm: Swarm) {
        let version = line.version
        guard let end = line.nextEnd(now: swarm.now) else { return }
        swarm.at(end.at) {
            guard self.line.version == version, let transfer = self.transfers.removeValue(forKey: end.key) else { return }
            self.line.stop(end.key, now: swarm.now)
            self.plan(swarm)
            swarm.after(self.latency) { transfer.node.receivedFromSite(transfer.chunk, transfer.tag) }
        }
    }
}

extension SwarmView {
    func sites(holding chunk: ChunkID) -> [NodeID] {
        guard let site = swarm.otherSite, let index = swarm.chunkIndex[chunk], site.announced.contains(index) else { return [] }
        return site.gateways
    }

    func siteOwners(for flist: FlistDigest?) -> [NodeID] { swarm.otherSite == nil ? [] : owners(for: flist) }
}
