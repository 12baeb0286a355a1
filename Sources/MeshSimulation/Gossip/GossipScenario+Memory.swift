internal import Gossip

package struct MemoryResult: Sendable, Encodable {
    /// Bytes of one node's machine that knows all others.
    package var bytesPerNode: Double
    /// The same for each member that it knows.
    package var bytesPerMember: Double
}

extension GossipScenario {
    /// - Parameter heapBytes: bytes in use on this process's heap.
    package func memory(chunks: Int, heapBytes: () -> Int) -> MemoryResult {
        let before = heapBytes()
        var site = settled()
        if chunks > 0 {
            let digest = Self.digest
            for i in site.nodes.indices {
                site.edit(i) {
                    $0.publishFlist(digest, chunkCount: chunks)
                    $0.setHave(digest, stride(from: i & 1, to: chunks, by: 2))
                }
            }
            let nodes = nodes
            _ = site.run(within: 600 * .second, step: .second) { site in
                site.nodes.allSatisfy { node in
                    let copies = node.machine.copies(of: digest)
                    return copies?.reduce(0) { $0 + Int($1) } == nodes * chunks / 2
                }
            }
        }
        site.keeps = { _ in false }
        site.forgetEvents()
        let bytes = Double(heapBytes() - before) / Double(nodes)
        // Alive until here.
        return MemoryResult(bytesPerNode: bytes, bytesPerMember: bytes / Double(max(site.nodes.count - 1, 1)))
    }
}
