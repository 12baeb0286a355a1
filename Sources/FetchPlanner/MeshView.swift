public import ChunkModel
public import MeshKeys

/// What the planner may know of the mesh at the moment of a decision. Asked again each time, never kept.
public protocol MeshView {
    /// Live nodes other than this one that announce `chunk`, own site only.
    func holders(of chunk: ChunkID) -> [NodeID]
    /// The live node other than this one that announced to be fetching `chunk` from upstream.
    func claimant(of chunk: ChunkID) -> NodeID?
    /// Live nodes of the own site that may fetch chunks of `flist` from upstream; this node among them when it may.
    func owners(for flist: FlistDigest?) -> [NodeID]
    /// Whether `node` still belongs to the mesh and is not known to be dead.
    func isLive(_ node: NodeID) -> Bool
}
