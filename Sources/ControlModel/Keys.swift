/// Answer of `GET /v1/keys`: which node holds which mesh keys. Keys are told by their fingerprints, sixteen hex digits.
public struct MeshKeyList: Codable, Sendable, Equatable {
    public struct Node: Codable, Sendable, Equatable {
        public var name: String
        public var id: String
        /// The first one seals what the node sends; empty when it did not say.
        public var keys: [String]
        /// Why it did not say, or could not do what was asked.
        public var error: String?
        public init(name: String, id: String, keys: [String], error: String? = nil) {
            (self.name, self.id, self.keys, self.error) = (name, id, keys, error)
        }
    }
    /// A known member that is not there now.
    public struct Away: Codable, Sendable, Equatable {
        public var name: String
        public var id: String
        public init(name: String, id: String) { (self.name, self.id) = (name, id) }
    }
    /// This node first, then all live members.
    public var nodes: [Node]
    public var away: [Away]
    /// The new key of a rotation that this node began and did not finish.
    public var rotating: String?
    public init(nodes: [Node], away: [Away], rotating: String? = nil) { (self.nodes, self.away, self.rotating) = (nodes, away, rotating) }
}

/// Body of `POST /v1/keys/rotate`.
public struct KeyRotation: Codable, Sendable, Equatable {
    public enum Step: String, Codable, Sendable, CaseIterable { case install, use, remove }
    /// One step only; absent: all that are still to do.
    public var step: Step?
    /// Fingerprint of the key that the step is about: the new one, or for `remove` the one to go.
    public var key: String?
    /// The new key in base64, where the caller made it; else the node makes one.
    public var newKey: String?
    /// Go on though known members are away, which are locked out then.
    public var force: Bool?
    /// Signatures of the mesh's admin key by step and fingerprint ("use 0123456789abcdef"), each the text of a minisign signature.
    public var signatures: [String: String]?
    public init(step: Step? = nil, key: String? = nil, newKey: String? = nil, force: Bool? = nil, signatures: [String: String]? = nil) {
        (self.step, self.key, self.newKey, self.force, self.signatures) = (step, key, newKey, force, signatures)
    }
}

/// Answer of `POST /v1/keys/rotate`: what became of each step at each node.
public struct KeyRotationReport: Codable, Sendable, Equatable {
    public struct Done: Codable, Sendable, Equatable {
        public var step: KeyRotation.Step
        public var key: String
        public var nodes: [MeshKeyList.Node]
        public init(step: KeyRotation.Step, key: String, nodes: [MeshKeyList.Node]) {
            (self.step, self.key, self.nodes) = (step, key, nodes)
        }
    }
    /// Fingerprint of the new key.
    public var key: String
    public var steps: [Done]
    public var away: [MeshKeyList.Away]
    /// All that was asked for is done.
    public var done: Bool
    /// What stopped it, and how to go on.
    public var problem: String?
    public init(key: String, steps: [Done], away: [MeshKeyList.Away], done: Bool, problem: String?) {
        (self.key, self.steps, self.away, self.done, self.problem) = (key, steps, away, done, problem)
    }
}

/// Body of `POST /v1/keys/revoke`, and each entry of the answer of `GET /v1/keys/revoked`.
public struct NodeRevocation: Codable, Sendable, Equatable {
    /// The identity, 64 hex digits.
    public var node: String
    /// Seconds since 1970; what was signed names it.
    public var issued: UInt64
    /// Text of a minisign signature by the mesh's admin key. Without one it holds on the node that it is given to, and nowhere else.
    public var signature: String?
    public init(node: String, issued: UInt64, signature: String? = nil) {
        (self.node, self.issued, self.signature) = (node, issued, signature)
    }
}

/// Answer of `GET /v1/keys/revoked`, and of a revocation.
public struct NodeRevocations: Codable, Sendable, Equatable {
    public var revoked: [NodeRevocation]
    public init(revoked: [NodeRevocation]) { self.revoked = revoked }
}

/// The texts that the mesh's admin key signs; the same on the command line and in the daemon.
public enum AdminText {
    public static func revocation(of node: String, issued: UInt64) -> [UInt8] { Array("chunkmesh revoke \(node) \(issued)\n".utf8) }
    public static func step(_ step: KeyRotation.Step, key: String) -> [UInt8] { Array("chunkmesh key \(step.rawValue) \(key)\n".utf8) }
}

/// What the API asks of a node about keys and identities. All of it is for users of the node's own machine.
public protocol KeyControl: Sendable {
    func meshKeys() async throws(NodeError) -> MeshKeyList
    func rotateKeys(_ request: KeyRotation) async throws(NodeError) -> KeyRotationReport
    func revoked() async throws(NodeError) -> NodeRevocations
    func revoke(_ revocation: NodeRevocation) async throws(NodeError) -> NodeRevocations
    /// Takes back what this node revoked for itself.
    func restore(_ node: String) async throws(NodeError) -> NodeRevocations
}
