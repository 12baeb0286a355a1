/// Who of those that hold the mesh key is a member: everybody, or a list; and nobody whose identity was revoked.
public struct MemberGate: Sendable, Equatable {
    /// Why a node is kept out.
    public enum Refusal: Sendable, Equatable, CustomStringConvertible {
        case notAllowed
        case revoked

        public var description: String {
            switch self {
            case .notAllowed: "mesh.allow does not list it"
            case .revoked: "its identity was revoked"
            }
        }
    }

    /// `nil` lets everybody in who holds the mesh key.
    public var allowed: Set<NodeID>?
    public var revoked: Set<NodeID>

    public init(allowed: Set<NodeID>? = nil, revoked: Set<NodeID> = []) { (self.allowed, self.revoked) = (allowed, revoked) }

    /// `nil` for a member.
    public func refusal(of node: NodeID) -> Refusal? {
        if revoked.contains(node) { return .revoked }
        if let allowed, !allowed.contains(node) { return .notAllowed }
        return nil
    }

    public func admits(_ node: NodeID) -> Bool { refusal(of: node) == nil }
}
