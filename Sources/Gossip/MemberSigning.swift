internal import ChunkModel
public import MeshKeys

/// How members sign what they say of themselves: state, name, site, address and incarnation. Who relays a record cannot change it, and
/// nobody but the node itself raises its incarnation or says its goodbye. What others say of it (suspect, dead) carries no signature of
/// its own: the accused refutes it.
public struct MemberSigning: Sendable {
    /// Bytes of a signature (Ed25519).
    public static let signatureBytes = 64

    let sign: @Sendable ([UInt8]) -> [UInt8]
    let verify: @Sendable (_ signature: [UInt8], _ text: [UInt8], _ by: NodeID) -> Bool

    /// Signs as the node, and believes valid signatures only.
    public init(identity: NodeIdentity) {
        sign = { identity.sign($0) }
        verify = { NodeIdentity.verify($0, of: $1, by: $2) }
    }

    private init(sign: @escaping @Sendable ([UInt8]) -> [UInt8], verify: @escaping @Sendable ([UInt8], [UInt8], NodeID) -> Bool) {
        (self.sign, self.verify) = (sign, verify)
    }

    /// Zeros, and every signature is believed: for simulations, whose nodes are thousands. The size on the wire is the same.
    public static let none = MemberSigning(
        sign: { _ in [UInt8](repeating: 0, count: signatureBytes) }, verify: { _, _, _ in true })
}

extension Member {
    static let signingContext = Array("chunkmesh member 1".utf8)

    /// What the node signs. An address that others filled in, since the node did not know its own, is left out but for the port.
    func signedText(_ state: MemberState) -> [UInt8] {
        var writer = WireWriter()
        writer.raw(Self.signingContext)
        writer.node(id)
        writer.number(incarnation)
        writer.number(epoch)
        writer.byte(state == .left ? MemberState.left.rawValue : MemberState.alive.rawValue)
        writer.string(Array(name.utf8))
        writer.string(Array(site.utf8))
        if isAddressSeen || address.isUnspecified { writer.byte(0) } else { writer.string(address.ip) }
        writer.number(UInt64(address.port))
        return writer.bytes
    }

    /// Signs the record as it stands; for the node itself.
    mutating func sign(_ signing: MemberSigning) { signature = signing.sign(signedText(state)) }
}

/// Counts signatures that were wrong, by the host that sent them, so that a member that forges costs no more than it may: beyond
/// `failuresInPeriod` nothing that needs a check is taken from that host for the rest of the period.
struct ForgeryBook: Sendable {
    static let failuresInPeriod = 32
    static let period: UInt64 = 10 * .second
    /// Hosts counted one by one; more share one count.
    static let maxHosts = 256

    private var since: UInt64 = 0
    private var failures: [[UInt8]: Int] = [:]

    func allows(_ host: [UInt8], now: UInt64) -> Bool {
        now >= since &+ Self.period || (failures[host] ?? failures[[]] ?? 0) < Self.failuresInPeriod
    }

    /// - Returns: whether this failure was the one that went too far.
    mutating func noteFailure(_ host: [UInt8], now: UInt64) -> Bool {
        if now >= since &+ Self.period { (since, failures) = (now, [:]) }
        let place = failures[host] != nil || failures.count < Self.maxHosts ? host : []
        failures[place, default: 0] += 1
        return failures[place] == Self.failuresInPeriod
    }
}

extension GossipMachine {
    /// Whether the node itself said what the record says of it (its goodbye, when `state` is `left`).
    mutating func isGenuine(_ said: Member, _ state: MemberState, from source: NodeAddress?, _ now: UInt64) -> Bool {
        let host = source?.ip ?? []
        guard forgeries.allows(host, now: now) else {
            counters.forged += 1
            return false
        }
        if said.signature.count == MemberSigning.signatureBytes, signing.verify(said.signature, said.signedText(state), said.id) {
            return true
        }
        counters.forged += 1
        if forgeries.noteFailure(host, now: now), let source { emit(.forgeries(from: source)) }
        return false
    }
}
