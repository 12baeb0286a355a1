internal import ChunkStore
internal import ControlModel
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import Minisign
internal import PeerExchange
internal import Synchronization

/// Who is a member, as this node has it: `mesh.allow` and the revocations that it was given or heard of. Tells gossip and exchange.
final class MemberRules: Sendable {
    static let file = "revoked"
    /// A file of this size holds all that fits.
    static let maxFileBytes: Int64 = 512 << 10

    private struct State {
        var allowed: Set<NodeID>?
        var admin: MinisignPublicKey?
        var revocations: RevocationSet
    }
    private let state: Mutex<State>
    private let me: NodeID
    private let directory: StateDirectory
    private let gossip: GossipTransport
    private let exchange: LateExchange
    private let logger: Logger

    /// Reads what was revoked in earlier runs. Blocking.
    ///
    /// - Throws: when the file cannot be read or is damaged: going on would let a revoked node in.
    init(
        me: NodeID, directory: String, allowed: Set<NodeID>?, admin: MinisignPublicKey?, gossip: GossipTransport, exchange: LateExchange,
        logger: Logger
    ) throws {
        (self.me, self.gossip, self.exchange, self.logger) = (me, gossip, exchange, logger)
        self.directory = try StateDirectory(directory)
        let bytes = try self.directory.read(Self.file, maxBytes: Self.maxFileBytes) ?? []
        guard let revocations = RevocationSet.decode(bytes) else {
            throw NodeError.unavailable(
                "\(directory)/\(Self.file), the list of revoked nodes, is damaged; remove it and revoke them again before you start")
        }
        state = Mutex(State(allowed: allowed, admin: admin, revocations: RevocationSet(revocations)))
    }

    var gate: MemberGate {
        state.withLock { state in
            MemberGate(allowed: state.allowed.map { $0.union([me]) }, revoked: state.revocations.nodes.subtracting([me]))
        }
    }
    var admin: MinisignPublicKey? { state.withLock { $0.admin } }
    var all: [Revocation] { state.withLock { $0.revocations.sorted } }
    /// Those that other nodes believe.
    var proven: [Revocation] { state.withLock { $0.revocations.proven(by: $0.admin) } }

    /// Puts the rules into force.
    func apply() {
        let gate = gate
        gossip.perform { $0.setGate(gate, now: $1) }
        exchange.value?.setGate(gate)
        let summary = RevocationSet.summary(proven)
        let isEmpty = proven.isEmpty
        gossip.change { machine, _ in
            if isEmpty { machine.removeFact(MeshFacts.revocationsKey) } else { _ = machine.setFact(MeshFacts.revocationsKey, summary) }
        }
        if state.withLock({ $0.revocations.nodes.contains(me) }) {
            logger.error("this node's own identity was revoked: the others don't let it in; a new one is made when node.key is removed")
        }
    }

    func set(allowed: Set<NodeID>?, admin: MinisignPublicKey?) {
        state.withLock { ($0.allowed, $0.admin) = (allowed, admin) }
        apply()
    }

    /// Adds what was given here or came from others, on disk first. Blocking.
    ///
    /// - Returns: those that are new.
    func add(_ new: [Revocation]) throws -> [Revocation] {
        let (added, isFull) = try state.withLock { state in
            var revocations = state.revocations
            var (added, isFull): ([Revocation], Bool) = ([], false)
            for one in new {
                switch revocations.insert(one) {
                case .added: added.append(one)
                case .known: break
                case .full: isFull = true
                }
            }
            if !added.isEmpty { try directory.writeAtomically(Self.file, RevocationSet.encode(revocations.sorted)) }
            state.revocations = revocations
            return (added, isFull)
        }
        for one in added {
            logger.warning(
                "a node's identity is revoked",
                metadata: ["node": "\(one.node.hex)", "by": "\(one.proof == nil ? "this node" : "mesh.admin")"])
        }
        if !added.isEmpty { apply() }
        if isFull {
            throw NodeError.conflict(
                "\(RevocationSet.maxCount) identities are revoked already; rotate the mesh's key, then take the old ones back")
        }
        return added
    }

    /// Takes a revocation back that holds on this node. Blocking.
    func restore(_ node: NodeID) throws {
        try state.withLock { state in
            var revocations = state.revocations
            revocations.remove(node)
            try directory.writeAtomically(Self.file, RevocationSet.encode(revocations.sorted))
            state.revocations = revocations
        }
        logger.notice("a node's identity is no longer revoked", metadata: ["node": "\(node.hex)"])
        apply()
    }
}
