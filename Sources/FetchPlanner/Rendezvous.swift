public import ChunkModel
public import MeshKeys

/// Highest-random-weight hashing: every node that knows the same candidates names the same owner, without a word between them,
/// and when one candidate goes only its own chunks move (Thaler and Ravishankar, "Using name-based mappings to increase hit
/// rates", 1998).
public enum Rendezvous {
    /// The candidates by falling weight for `chunk`: the first is its owner, the next takes over from it.
    public static func ranking(of chunk: ChunkID, among candidates: [NodeID]) -> [NodeID] {
        candidates.map { (weight: weight(chunk.prefix64, $0), node: $0) }
            .sorted { ($0.weight, $0.node) > ($1.weight, $1.node) }
            .map(\.node)
    }

    /// The first of the ranking, for any 64-bit key that is spread evenly; `nil` without candidates.
    public static func owner(ofKey key: UInt64, among candidates: some Sequence<NodeID>) -> NodeID? {
        candidates.max { (weight(key, $0), $0) < (weight(key, $1), $1) }
    }

    /// The chunks by the place that `node` has in their ranking, high ones first, within every stretch of `window`: nodes that begin
    /// at the same moment then begin with different ones.
    public static func ownFirst(_ chunks: [ChunkID], _ node: NodeID, window: Int) -> [Int] {
        let part = part(of: node)
        return stride(from: 0, to: chunks.count, by: max(1, window)).flatMap { start in
            (start..<min(start + max(1, window), chunks.count)).map { (weight: weight(chunks[$0].prefix64, part: part), index: $0) }
                .sorted { ($0.weight, $0.index) > ($1.weight, $1.index) }.map(\.index)
        }
    }

    static func weight(_ key: UInt64, _ node: NodeID) -> UInt64 { weight(key, part: part(of: node)) }

    /// What of a weight depends on the node alone, and the weight made of it.
    static func part(of node: NodeID) -> UInt64 { mix(node.value.prefix64) }
    static func weight(_ key: UInt64, part: UInt64) -> UInt64 { mix(key ^ part) }

    /// The finaliser of SplitMix64: every bit of the input changes half of the output's.
    static func mix(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9e37_79b9_7f4a_7c15
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
