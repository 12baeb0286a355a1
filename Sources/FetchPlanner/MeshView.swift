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
    /// Gateways of other sites that may be asked and where somebody holds `chunk`, the nearest first.
    func sites(holding chunk: ChunkID) -> [NodeID]
    /// Live nodes of the own site that may ask other sites for chunks of `flist`; this node among them when it may.
    func siteOwners(for flist: FlistDigest?) -> [NodeID]
    /// It is still being found out which chunks of `flist` other sites hold; true for a moment at most.
    func awaitsSites(of flist: FlistDigest?) -> Bool
    /// Whether `node` still belongs to the mesh and is not known to be dead, or speaks for another site that can be reached.
    func isLive(_ node: NodeID) -> Bool
    /// Live nodes of the own site, other than this one, that announce to be after all chunks of `flist`, or many; while this node has
    /// not been after them for long, also those that may be and have not been heard of yet.
    func seekers(of flist: FlistDigest) -> Seekers
    /// Whether this node itself is after all chunks of `flist`.
    func isSeeking(_ flist: FlistDigest) -> Bool
}

extension MeshView {
    public func seekers(of flist: FlistDigest) -> Seekers { Seekers([]) }
    public func isSeeking(_ flist: FlistDigest) -> Bool { false }
}

/// A site by itself.
extension MeshView {
    public func sites(holding chunk: ChunkID) -> [NodeID] { [] }
    public func siteOwners(for flist: FlistDigest?) -> [NodeID] { [] }
    public func awaitsSites(of flist: FlistDigest?) -> Bool { false }
}
