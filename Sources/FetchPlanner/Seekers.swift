public import MeshKeys

/// Nodes that are after the chunks of one flist, with what of their weights does not depend on the chunk.
public struct Seekers: Sendable {
    struct Place: Sendable {
        let weight: UInt64
        let node: NodeID
    }

    private var nodes: [NodeID]
    private var parts: [UInt64]

    public init(_ nodes: [NodeID]) { (self.nodes, parts) = (nodes, nodes.map { Rendezvous.part(of: $0) }) }

    var count: Int { nodes.count }

    /// Those that stand higher than `weight` in the ranking for `key`, in no order.
    func above(_ weight: UInt64, for key: UInt64) -> [Place] {
        var out: [Place] = []
        for (place, part) in parts.enumerated() {
            let theirs = Rendezvous.weight(key, part: part)
            if theirs > weight { out.append(Place(weight: theirs, node: nodes[place])) }
        }
        return out
    }

    func without(_ isLeftOut: (NodeID) -> Bool) -> Seekers { Seekers(nodes.filter { !isLeftOut($0) }) }
}
