internal import ControlModel
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import NodeConfiguration
internal import Synchronization

/// The node's mesh keys while it runs: changed on disk first, then in gossip and exchange.
final class KeyKeeper: Sendable {
    /// `nil` on a node without a mesh key.
    let file: String?
    private let gossip: GossipTransport
    private let exchange: LateExchange
    private let logger: Logger
    private let ring: Mutex<MeshKeyRing?>

    init(file: String?, ring: MeshKeyRing?, gossip: GossipTransport, exchange: LateExchange, logger: Logger) {
        (self.file, self.gossip, self.exchange, self.logger) = (file, gossip, exchange, logger)
        self.ring = Mutex(ring)
    }

    var fingerprints: [MeshKeyFingerprint] { ring.withLock { $0?.fingerprints ?? [] } }
    func key(of fingerprint: MeshKeyFingerprint) -> [UInt8]? { ring.withLock { $0?.key(of: fingerprint) } }

    /// Does one step, and says which keys are there then. Blocking.
    ///
    /// - Throws: one line that says why it was not done; then nothing has changed.
    func perform(_ order: KeyOrder) throws -> [MeshKeyFingerprint] {
        guard let file else { throw NodeError.conflict("no mesh.keyFile is configured: this node is on loopback only") }
        guard order.step != .list else { return fingerprints }
        return try ring.withLock { ring in
            // What the operator wrote into the file since it was read counts too.
            let base = try MeshKeyRing.load(file: file)
            guard let key = order.key else { throw NodeError.badRequest("no key is named") }
            let new: MeshKeyRing
            switch order.step {
            case .list: new = base
            case .install:
                guard let bytes = order.newKey, let wider = base.installing(bytes) else {
                    throw NodeError.conflict("\(file) holds \(MeshKeyRing.maxKeys) keys already; remove old ones first")
                }
                guard wider.fingerprints.contains(key) else { throw NodeError.badRequest("the key is not the one that was named") }
                new = wider
            case .use:
                guard let first = base.using(key) else { throw NodeError.conflict("the key \(key) is not installed") }
                new = first
            case .remove:
                guard let less = base.removing(key) else { throw NodeError.conflict("the key \(key) is the one that is used") }
                new = less
            }
            // A step that was done before may meet a file that was made longer ago than this run.
            if new.fingerprints != base.fingerprints { try new.save(file: file) }
            if new.fingerprints != ring?.fingerprints {
                take(new)
                logger.notice(
                    "mesh keys changed",
                    metadata: ["step": "\(order.step)", "key": "\(key)", "keys": "\(new.fingerprints.map(\.description))"])
            }
            ring = new
            return new.fingerprints
        }
    }

    /// Reads the key file again, which the operator may have changed. Blocking.
    ///
    /// - Returns: whether other keys hold now.
    func reload() throws -> Bool {
        guard let file else { return false }
        return try ring.withLock { ring in
            let new = try MeshKeyRing.load(file: file)
            guard new.fingerprints != ring?.fingerprints else { return false }
            take(new)
            ring = new
            return true
        }
    }

    private func take(_ new: MeshKeyRing) {
        gossip.setRing(new)
        exchange.value?.setRing(new)
    }
}
