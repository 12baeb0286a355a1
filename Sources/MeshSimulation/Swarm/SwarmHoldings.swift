internal import MeshKeys

/// Who holds one chunk, in the order of time.
struct SwarmHoldings {
    private(set) var nodes: [Int] = []
    private(set) var ids: [NodeID] = []
    private(set) var since: [Duration] = []

    mutating func append(_ node: Int, _ id: NodeID, since time: Duration) {
        nodes.append(node)
        ids.append(id)
        since.append(time)
    }

    /// The places of those that held it at `time`, and of the others.
    func split(at time: Duration) -> (old: Range<Int>, recent: Range<Int>) {
        var (low, high) = (0, since.count)
        while low < high {
            let middle = (low + high) / 2
            if since[middle] <= time { low = middle + 1 } else { high = middle }
        }
        return (0..<low, low..<since.count)
    }
}
