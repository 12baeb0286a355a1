public import MeshKeys

/// What a member is taken to be. The raw value is the one on the wire, and grows with what it takes to overrule it.
public enum MemberState: UInt8, Sendable {
    case alive = 0
    /// Did not answer; counts as living until its time to refute is over.
    case suspect = 1
    case dead = 2
    /// Said goodbye.
    case left = 3

    public var isLive: Bool { self == .alive || self == .suspect }
}

/// One node of the mesh as this machine knows it.
public struct Member: Hashable, Sendable {
    /// Who the node is, what it is called and where it listens.
    public var id: NodeID
    public var name: String
    public var site: String
    public var address: NodeAddress
    /// Raised by the node alone, to overrule what others say of it.
    public internal(set) var incarnation: UInt64
    /// The incarnation that the node started with: tells the records of two runs apart.
    public internal(set) var epoch: UInt64
    public internal(set) var state: MemberState
    /// When it got this state, nanoseconds of the machine's clock.
    public internal(set) var since: UInt64
    /// The node's own, over its last record (`signedText`).
    public internal(set) var signature: [UInt8] = []
    /// The node did not know its address when it signed; others filled in where they saw it.
    public internal(set) var isAddressSeen = false
    /// Smoothed time from probe to answer in nanoseconds; `nil` until a probe was answered.
    public internal(set) var roundTrip: UInt64?

    /// - Parameter incarnation: seconds of the wall clock at start do, so that a restarted node overrules its own past.
    public init(id: NodeID, name: String, site: String, address: NodeAddress, incarnation: UInt64) {
        self.id = id
        self.name = Self.cut(name)
        self.site = Self.cut(site)
        self.address = address
        self.incarnation = incarnation
        epoch = incarnation
        state = .alive
        since = 0
    }

    /// Stands in the byte of the state.
    private static let seenFlag: UInt8 = 4

    /// As much of `text` as fits, in whole characters.
    private static func cut(_ text: String) -> String {
        var text = text
        while text.utf8.count > GossipLimits.nameBytes { text.removeLast() }
        return text
    }

    func encode(to writer: inout WireWriter) {
        writer.node(id)
        writer.number(incarnation)
        writer.number(incarnation &- epoch)
        writer.byte(state.rawValue | (isAddressSeen ? Self.seenFlag : 0))
        writer.string(Array(name.utf8))
        writer.string(Array(site.utf8))
        writer.address(address)
        writer.raw(signature.count == MemberSigning.signatureBytes ? signature : [UInt8](repeating: 0, count: MemberSigning.signatureBytes))
    }

    init(from reader: inout WireReader) throws {
        id = try reader.node()
        incarnation = try reader.number()
        let age = try reader.number()
        guard age <= incarnation, incarnation < 1 << 62 else { throw WireError() }
        epoch = incarnation - age
        let stateByte = try reader.byte()
        guard let state = MemberState(rawValue: stateByte & ~Self.seenFlag) else { throw WireError() }
        self.state = state
        isAddressSeen = stateByte & Self.seenFlag != 0
        name = try reader.text(upTo: GossipLimits.nameBytes)
        site = try reader.text(upTo: GossipLimits.nameBytes)
        // Bytes that are no UTF-8 grow when repaired.
        guard name.utf8.count <= GossipLimits.nameBytes, site.utf8.count <= GossipLimits.nameBytes else { throw WireError() }
        address = try reader.address()
        signature = try reader.raw(MemberSigning.signatureBytes)
        since = 0
        roundTrip = nil
    }

    /// Same data, whatever this machine thinks of the node's state.
    func describesSame(as other: Member) -> Bool {
        id == other.id && name == other.name && site == other.site && address == other.address
    }
}
