internal import BlockingThreads
public import ControlModel
internal import Glibc
internal import MeshKeys
internal import NodeConfiguration

/// The node as its API sees it: keys and identities.
extension MeshNode {
    public func meshKeys() async throws(NodeError) -> MeshKeyList { try await strangers.rotator.list() }

    public func rotateKeys(_ request: KeyRotation) async throws(NodeError) -> KeyRotationReport {
        try await strangers.rotator.rotate(request)
    }

    public func revoked() async throws(NodeError) -> NodeRevocations { NodeRevocations(revoked: strangers.rules.all.map(\.shown)) }

    public func revoke(_ revocation: NodeRevocation) async throws(NodeError) -> NodeRevocations {
        guard let node = NodeID(hex: revocation.node) else { throw .badRequest("a node id has 64 hex digits, as chunkmesh peers shows it") }
        guard node != parts.identity.id else { throw .badRequest("that is this node itself; revoke it on another one") }
        let proof = revocation.signature.map { Array($0.utf8) }
        let one = Revocation(node: node, issued: revocation.issued, proof: proof)
        if proof != nil {
            guard let admin = strangers.rules.admin else {
                throw .conflict("mesh.admin is not set on this node: nobody could check the signature")
            }
            guard (proof?.count ?? 0) <= Revocation.maxProofBytes, one.isProven(by: admin) else {
                throw .badRequest("the signature is not that of mesh.admin over this revocation")
            }
        }
        return try await changed { rules in _ = try rules.add([one]) }
    }

    public func restore(_ node: String) async throws(NodeError) -> NodeRevocations {
        guard let id = NodeID(hex: node) else { throw .badRequest("a node id has 64 hex digits") }
        guard let one = strangers.rules.all.first(where: { $0.node == id }) else { throw .notFound("that node is not revoked here") }
        guard one.proof == nil || strangers.rules.admin == nil else {
            throw .conflict("mesh.admin revoked it in the whole mesh; the machine gets a new identity when its node.key is removed")
        }
        return try await changed { rules in try rules.restore(id) }
    }

    private func changed(_ body: @escaping @Sendable (MemberRules) throws -> Void) async throws(NodeError) -> NodeRevocations {
        do {
            try await parts.threads.run { [strangers] in try body(strangers.rules) }
        } catch {
            throw error as? NodeError ?? .unavailable("\(error)")
        }
        return try await revoked()
    }
}

/// What deals with keys and identities in a node.
struct NodeStrangers: Sendable {
    let keeper: KeyKeeper
    let rules: MemberRules
    let rotator: KeyRotator
    let spread: RevocationSpread
}
