/// Times and counts of the protocol. The defaults suit one LAN; all times are nanoseconds of any clock that never goes back.
public struct GossipConfiguration: Sendable {
    /// One member is probed in each interval; with a raised awareness the interval grows up to `awarenessCap` times. Two probes a second
    /// cost 0.6 KB/s, and somebody's comes to a dead member within 2.5 s in 99.3 % of all cases, in a mesh of any size.
    public var probeInterval: UInt64 = 500 * .millisecond
    /// A probe that got no answer for this long has failed. It asks the member itself four times at equal distances.
    public var probeTime: UInt64 = 1_000 * .millisecond
    /// After this long without an answer other members are asked to probe too.
    public var probeTimeout: UInt64 = 500 * .millisecond
    public var indirectProbes = 3
    /// A suspicion that others confirm lasts this long, and `suspicionMaxFactor` times as long while nobody does.
    ///
    /// Lifeguard and memberlist let this grow with log10(members) (12 s for a thousand with memberlist's defaults), the time that gossip
    /// needs to bring the suspicion to the suspect and its word back to all. Here the accuser and those who check tell the suspect
    /// themselves, at once, and nobody buries a member before a last probe of his own failed too (`GossipMachine+Membership`): so the way
    /// back is all that has to fit, two seconds at a thousand members.
    public var suspicionTime: UInt64 = 4_000 * .millisecond
    public var suspicionMaxFactor = 6
    /// Members beside the accuser whose word makes a suspicion as short as it gets.
    public var confirmations = 2
    /// A member's state is sent this × ⌈log10(members + 1)⌉ times by every member (memberlist's default).
    public var retransmitMultiplier = 4
    /// What nodes hold is sent this + ⌈log10(members + 1)⌉ - 1 times: 99.8 % of a thousand hear it with one datagram in ten lost. Who misses
    /// it sees from version numbers that he did, and asks.
    public var contentRetransmits = 4
    /// Bytes a second, on average over two seconds, that this node spends on telling what nodes hold: deltas, its answers to those who
    /// lack some, and its own questions. At the limit it tells no content, and asks for none; its own changes wait and become one delta
    /// when the last one has been told, and those of others that wait likewise. So the news of a mesh that changes everywhere gets older,
    /// not more. Members' states are not held back; they are bounded by the three datagrams of each `gossipInterval`.
    public var contentBytesPerSecond = 10_000
    public var gossipInterval: UInt64 = 200 * .millisecond
    public var gossipFanout = 3
    /// A node that started compares its state with another's after a second, then after two, four and so on up to this.
    public var stateExchangeInterval: UInt64 = 30_000 * .millisecond
    /// The dead are gossiped to for this long, so that one who lives can refute.
    public var gossipToTheDead: UInt64 = 30_000 * .millisecond
    /// Members known dead are asked again this often (one of them each time), which is how the halves of a split mesh meet again.
    public var reconnectInterval: UInt64 = 10_000 * .millisecond
    /// The dead and those who left are forgotten after this long.
    public var reapAfter: UInt64 = 3_600_000 * .millisecond
    /// Lifeguard's local health: a member whose own probes go wrong waits up to this many times longer before it blames others.
    public var awarenessCap = 8
    /// A claim to be fetching a chunk lapses after this long unless it is made again.
    public var claimTimeout: UInt64 = 30_000 * .millisecond
    /// Joining is tried again after this long, doubled each time up to `joinRetryCap`.
    public var joinRetry: UInt64 = 200 * .millisecond
    public var joinRetryCap: UInt64 = 30_000 * .millisecond
    /// A member that lacks versions of another's records asks for them after this long, since gossip may bring them meanwhile.
    public var repairDelay: UInt64 = 600 * .millisecond

    public init() {}
}

/// What one machine accepts at most. All of it holds for hostile input too.
public enum GossipLimits {
    /// Bytes of one datagram before the transport's header and seal, so that it stays within 1,400 bytes sealed.
    public static let datagramBytes = 1_340
    /// Members known at a time, the dead included; beyond it the longest dead makes room, or the newcomer is refused and counted.
    public static let members = 2_048
    /// Characters of a name or site, in UTF-8 bytes; longer ones are cut when set and refused when received.
    public static let nameBytes = 64
    /// Facts that one node publishes; more are refused.
    public static let factsPerNode = 256
    public static let factIDBytes = 32
    public static let factValueBytes = 256
    /// Flists that one node publishes; more are refused.
    public static let flistsPerNode = 64
    /// Chunks of all the flists of one node together (2 MiB of bitmaps); more are refused.
    public static let chunksPerNode = 1 << 24
    /// Bytes of all bitmaps of other nodes, reserved when an flist is announced. A node whose flists don't fit is
    /// taken to hold nothing until it restarts, and counted.
    public static let bitmapBytes = 64 << 20
    /// In-flight claims of one node; further ones are not announced, or not taken in.
    public static let claimsPerNode = 1_024
    /// Chunks of one flist of one node that were found missing; beyond it the whole announcement is distrusted.
    public static let droppedPerFlist = 4_096
    /// Bytes of one state exchange over a stream; what does not fit follows in the next round.
    public static let streamStateBytes = 4 << 20
    /// Bytes of one state exchange over datagrams; more asks for the stream.
    public static let datagramStateBytes = 32 << 10
    /// Bytes of changes kept for each node to answer those who lag a little; older ones get everything.
    public static let changeLogBytes = 16 << 10
    /// Bytes of changes of one node in one datagram; who lags further is told the version only and asks.
    public static let deltaBytes = 900
    /// Fragmented messages under way to or from this machine at a time; the oldest gives way.
    public static let transfers = 64
    /// A fragmented message lives this long.
    public static let transferTime: UInt64 = 5_000 * .millisecond
    /// Probes made for others at a time; more are refused by silence.
    public static let relayedProbes = 256
    /// Addresses that `join` keeps.
    public static let joinAddresses = 256
    /// Strangers whose state is asked for, remembered for a second each, so that one is not asked for every datagram.
    public static let strangers = 512
    /// Steps that the changes in one message may take, a step being a word of a bitmap or an entry of a list gone through: 60 times what the
    /// largest honest record takes, some tens of milliseconds. Beyond it the message is malformed: a few bytes that set a bit and clear it
    /// again build 2 MiB of bitmap each time.
    static let changeWork = 1 << 24
    /// Rounds of one state exchange whose answer says that there is more.
    public static let exchangeRounds = 64
}

extension UInt64 {
    /// Nanoseconds.
    public static let millisecond: UInt64 = 1_000_000
    public static let second: UInt64 = 1_000_000_000
}
