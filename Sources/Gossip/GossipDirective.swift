public import ChunkModel
public import MeshKeys

/// What the machine wants done. The order of one answer's directives is kept by the shell.
public enum GossipDirective: Sendable, Equatable {
    /// One datagram of at most `GossipLimits.datagramBytes`, to be sealed and sent.
    case send(to: NodeAddress, [UInt8])
    /// A request for `receiveStateRequest` of the node at `address`, too large for datagrams or to somebody whom none reach. The answer goes to
    /// `receiveStateReply`; when there is none, `stateExchangeFailed` makes the machine try datagrams.
    case exchangeState(with: NodeID, at: NodeAddress, [UInt8])
    case event(GossipEvent)
}

/// What happened to the machine's view. Each is said once it is visible through the machine's properties.
public enum GossipEvent: Sendable, Equatable {
    case joined(Member)
    /// A suspicion was refuted, or a node that was dead or had left is back.
    case alive(Member)
    case suspect(Member)
    case dead(Member)
    case left(Member)
    /// Name, site, address or incarnation changed.
    case updated(Member)
    case factsChanged(of: NodeID)
    case availabilityChanged(of: NodeID, FlistDigest)
    /// So many records with wrong signatures came from there that none that needs a check is taken from it for some seconds.
    case forgeries(from: NodeAddress)
}

/// Counters since the start; each names one way in which input was refused or a bound was met.
public struct GossipCounters: Sendable, Equatable {
    public var datagramsReceived: UInt64 = 0
    public var datagramsSent: UInt64 = 0
    public var bytesSent: UInt64 = 0
    public var malformed: UInt64 = 0
    public var otherVersion: UInt64 = 0
    public var membersRefused: UInt64 = 0
    public var contentsRefused: UInt64 = 0
    public var transfersAbandoned: UInt64 = 0
    /// Datagrams and records under one identity that come from two nodes, or two runs of one.
    public var identityConflicts: UInt64 = 0
    /// Of these, the ones about this node itself.
    public var ownIdentityConflicts: UInt64 = 0
    public var refutations: UInt64 = 0
    public var probesFailed: UInt64 = 0
    public var stateExchanges: UInt64 = 0
    /// Datagrams of other sites.
    public var foreignDatagrams: UInt64 = 0
    /// Other sites, and what they hold, that were not taken in beyond `GossipLimits.sites`, `siteHoldings` or `siteBitmapBytes`.
    public var sitesRefused: UInt64 = 0
    /// Suspects that were asked by stream, since no datagram came back.
    public var streamProbes: UInt64 = 0
    /// Records that the node which they speak of did not sign.
    public var forged: UInt64 = 0
    /// Datagrams and records of nodes that hold the key and are no members (`MemberGate`).
    public var notAdmitted: UInt64 = 0
}
