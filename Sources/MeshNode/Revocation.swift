internal import ChunkModel
internal import ControlModel
internal import MeshKeys
internal import Minisign

/// A node identity that is no member any more.
struct Revocation: Sendable, Equatable {
    /// A signature file with short comments; a longer one is no proof.
    static let maxProofBytes = 1_024

    let node: NodeID
    /// Seconds since 1970.
    let issued: UInt64
    /// Bytes of a minisign signature by the mesh's admin key over `AdminText.revocation`; `nil` holds on this node only.
    let proof: [UInt8]?

    /// Whether the admin of the mesh signed it.
    func isProven(by admin: MinisignPublicKey?) -> Bool {
        guard let admin, let proof, let signature = try? MinisignSignature(proof) else { return false }
        return signature.isGenuine(for: AdminText.revocation(of: node.hex, issued: issued), by: admin)
    }

    var shown: NodeRevocation {
        NodeRevocation(node: node.hex, issued: issued, signature: proof.map { String(decoding: $0, as: UTF8.self) })
    }
}

/// The revocations of one node: at most one for an identity, a proven one before a local one.
struct RevocationSet: Sendable, Equatable {
    /// More than a mesh revokes before its key is rotated and the list can be cleared with it; further ones are refused.
    static let maxCount = 256

    private(set) var byNode: [NodeID: Revocation] = [:]

    var nodes: Set<NodeID> { Set(byNode.keys) }
    var sorted: [Revocation] { byNode.values.sorted { $0.node < $1.node } }

    enum Insertion { case added, known, full }

    mutating func insert(_ revocation: Revocation) -> Insertion {
        if let known = byNode[revocation.node], known.proof != nil || revocation.proof == nil { return .known }
        guard byNode[revocation.node] != nil || byNode.count < Self.maxCount else { return .full }
        byNode[revocation.node] = revocation
        return .added
    }

    /// Takes a local one back.
    mutating func remove(_ node: NodeID) { byNode[node] = nil }

    /// Those that go to other nodes.
    func proven(by admin: MinisignPublicKey?) -> [Revocation] { admin == nil ? [] : sorted.filter { $0.isProven(by: admin) } }

    // MARK: Bytes

    /// Identity, time and proof, one after the other.
    static func encode(_ revocations: [Revocation]) -> [UInt8] {
        revocations.flatMap { one in
            let proof = one.proof ?? []
            return one.node.bytes + one.issued.bytes + UInt16(clamping: proof.count).bytes + proof
        }
    }

    /// - Returns: `nil` for bytes that `encode` would not have written.
    static func decode(_ bytes: [UInt8]) -> [Revocation]? {
        var out: [Revocation] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            guard rest.count >= 42, out.count < maxCount, let node = NodeID(rest.prefix(32)) else { return nil }
            let issued = UInt64(bytes: rest.dropFirst(32).prefix(8))
            let length = Int(UInt16(bytes: rest.dropFirst(40).prefix(2)))
            rest = rest.dropFirst(42)
            guard length <= Revocation.maxProofBytes, rest.count >= length else { return nil }
            out.append(Revocation(node: node, issued: issued, proof: length == 0 ? nil : Array(rest.prefix(length))))
            rest = rest.dropFirst(length)
        }
        return out
    }

    init() {}

    init(_ revocations: [Revocation]) { for one in revocations { _ = insert(one) } }

    /// What nodes compare: the number of those that spread, and a hash over them. Signatures over the same differ, so identities only.
    static func summary(_ proven: [Revocation]) -> [UInt8] {
        UInt16(clamping: proven.count).bytes + Blake2b.hash256(proven.flatMap(\.node.bytes)).bytes
    }
}
