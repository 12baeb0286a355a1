internal import MeshKeys

extension Setting {
    /// More nodes than a mesh has.
    static let maxNodeIDs = 4_096

    /// Identities as `chunkmesh peers` and `stats` show them. An empty list is refused: it could mean nobody or everybody.
    func nodeIDs() throws -> Set<NodeID> {
        let ids = try list { item throws(ValueError) -> NodeID in
            guard let id = NodeID(hex: try item.text()) else {
                throw ValueError(reason: "takes node ids of 64 hex digits, as chunkmesh peers shows them")
            }
            return id
        }
        guard !ids.isEmpty else { throw ValueError(reason: "is empty: list node ids, or leave it out to let in all that hold the key") }
        guard ids.count <= Self.maxNodeIDs else { throw ValueError(reason: "takes at most \(Self.maxNodeIDs) node ids") }
        return Set(ids)
    }
}
