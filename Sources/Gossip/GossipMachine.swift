internal import ChunkModel
public import MeshKeys

/// SWIM membership with Lifeguard's refinements, facts and chunk availability of all nodes of a site, as a value: input goes in with the
/// time, directives come out. It does no I/O, reads no clock and has its own seeded generator, so a run can be repeated.
///
/// Times are nanoseconds of any clock that never goes back. The shell calls `tick` at `nextDeadline` (ask again after every
/// call), `receive` for each datagram that it opened, and carries out the directives in order.
///
/// How things spread:
/// - States of members ride on probes and on gossip datagrams, each a bounded number of times.
/// - Each node numbers the changes of what it publishes (facts, flists, bitmaps, claims). Changes go out as deltas "from version
///   a to b"; every datagram names its sender's version, so who missed some notices, and asks for them.
/// - Every 30 s a node compares a hash of its whole state with another's, and only when these differ they exchange summaries, and
///   then what the other lacks. Exchanges travel in datagrams (fragments, asked for again when lost) up to
///   `GossipLimits.datagramStateBytes`, and above it over a stream that the shell provides. An answer that would be larger than
///   `GossipLimits.streamStateBytes` says that there is more, and the asker asks again. One node's records are never split: they
///   fit a stream always, and datagrams up to 64 KiB when there is no stream.
/// - All of this is within one site: see `GossipMachine+Sites.swift` for how sites know each other.
///
/// Sources: Das, Gupta, Motivala, "SWIM" (DSN 2002) §4; Dadgar, Phillips, Currey, "Lifeguard" (DSN-W 2018) §4.
public struct GossipMachine: Sendable {
    static let wireVersion: UInt8 = 2

    public let configuration: GossipConfiguration
    /// This node.
    public internal(set) var me: Member {
        didSet {
            if me.signedText(me.state) != oldValue.signedText(oldValue.state) { me.sign(signing) }
        }
    }
    /// The others: those alive, and for a while the dead and those who left.
    public internal(set) var members: [NodeID: Member] = [:]
    public internal(set) var counters = GossipCounters()
    /// Lifeguard's local health: 0 is good; above it this node doubts itself first.
    public internal(set) var awareness = 0
    public internal(set) var isLeaving = false
    /// The others cannot reach this node where they look for it.
    var isAddressLost = false
    /// Who is a member; see `setGate`.
    public internal(set) var gate = MemberGate()
    let signing: MemberSigning
    var forgeries = ForgeryBook()
    /// Who asks by the stream that is being answered.
    var provenAsker: NodeID?
    /// Members by IP address.
    var hosts: [[UInt8]: Int] = [:]

    var random: SplitMix64
    /// Live others in the order in which they are probed.
    var roster: [NodeID] = []
    var rosterNext = 0
    /// Dead ones, who may come back.
    var dead: [NodeID] = []
    var suspicions: [NodeID: Suspicion] = [:]
    var probes: [UInt32: Probe] = [:]
    var relayed: [UInt32: RelayedProbe] = [:]
    var queue = BroadcastQueue()
    var contents: ContentTable
    var pending = PendingChanges()
    var repairs: [NodeID: Repair] = [:]
    var outgoing: [UInt64: OutgoingTransfer] = [:]
    var incoming: [TransferKey: IncomingTransfer] = [:]
    var strangers: [NodeID: UInt64] = [:]
    /// Where the stream did not work lately, and until when that is remembered.
    var streamless: [NodeAddress: UInt64] = [:]
    /// Those who are being asked by stream.
    var streamProbes: [NodeAddress: StreamProbe] = [:]
    /// A suspect answered by stream a moment ago: datagrams are lost, and their silence says little.
    var streamsOnlyUntil: UInt64 = 0
    var joinAddresses: [NodeAddress] = []
    var joinDelay: UInt64 = 0
    var rounds = 0
    /// Other sites.
    var book = SiteBook()
    /// Stands for this node's site in the head of every datagram.
    let siteTag: [UInt8]
    /// From one comparison of states to the next; grows up to the configured interval.
    var exchangePause: UInt64 = .second
    /// What may be spent on content; see `GossipConfiguration.contentBytesPerSecond`.
    var contentBudget: ContentBudget

    var nextProbe: UInt64
    var nextGossip: UInt64
    var nextExchange: UInt64
    var nextReconnect: UInt64
    var nextJoin: UInt64 = .max
    /// Until then this node does not overrule another one with its identity.
    var nextConflict: UInt64 = 0
    /// Until then this node is new.
    let newUntil: UInt64
    /// A message that names many members is being read.
    var isBulk = false
    /// Until then no state is asked for because a dead member came back.
    var nextReunion: UInt64 = 0

    var out: [GossipDirective] = []

    /// - Parameters:
    ///   - me: with an incarnation higher than in earlier runs (seconds of the wall clock). An unspecified address is replaced by
    ///     the one under which others see this node.
    ///   - signing: of members' records; a real node gives its identity.
    ///   - seed: of the generator.
    public init(
        me: Member, configuration: GossipConfiguration = GossipConfiguration(), signing: MemberSigning = .none, seed: UInt64, now: UInt64
    ) {
        self.me = me
        self.me.sign(signing)
        self.signing = signing
        self.configuration = configuration
        siteTag = Self.siteTag(me.site)
        random = SplitMix64(seed: seed)
        contents = ContentTable(own: me.id)
        contents.begin(me.id, epoch: me.epoch)
        nextProbe = now &+ random.next(upperBound: configuration.probeInterval)
        nextGossip = now
        newUntil = now &+ GossipLimits.newTime
        nextExchange = now &+ .second / 2 &+ random.next(upperBound: .second)
        contentBudget = ContentBudget(bytesPerSecond: configuration.contentBytesPerSecond, now: now)
        nextReconnect = now &+ configuration.reconnectInterval
    }

    // MARK: Time

    /// When `tick` is wanted next. May be in the past.
    public var nextDeadline: UInt64 {
        var at = min(nextReconnect, nextExchange, isLeaving ? .max : book.due)
        if !roster.isEmpty && !isLeaving { at = min(at, nextProbe) }
        if !queue.isEmpty && !roster.isEmpty || !pending.isEmpty { at = min(at, nextGossip) }
        if roster.isEmpty && !isLeaving && !joinAddresses.isEmpty { at = min(at, nextJoin) }
        for probe in probes.values { at = min(at, probe.deadline) }
        for relay in relayed.values { at = min(at, relay.deadline) }
        for suspicion in suspicions.values { at = min(at, suspicion.actsAt) }
        for repair in repairs.values { at = min(at, repair.at) }
        for transfer in incoming.values { at = min(at, transfer.wantAt) }
        return at
    }

    /// Does what is due at `now`.
    public mutating func tick(now: UInt64) -> [GossipDirective] {
        contentBudget.refill(now)
        tickProbes(now)
        tickSuspicions(now)
        if now >= nextJoin, roster.isEmpty, !isLeaving { sendJoin(now) }
        if now >= nextExchange {
            exchangePause = min(exchangePause &* 2, configuration.stateExchangeInterval)
            // Spread by a quarter, so that nodes that started together don't compare together for ever.
            nextExchange = now &+ exchangePause &- random.next(upperBound: exchangePause / 4 + 1)
            startExchange(now)
        }
        if now >= nextReconnect {
            // The more are gone, the likelier it is that the network was split.
            nextReconnect = now &+ configuration.reconnectInterval / UInt64(min(max(dead.count, 1), 5))
            reconnect(now)
        }
        tickRepairs(now)
        tickTransfers(now)
        tickSites(now)
        if now >= nextGossip { gossip(now) }
        return drain()
    }

    // MARK: Input

    /// One datagram of another node, opened; `from` is where it came from. Bytes that mean nothing are counted and dropped.
    public mutating func receive(_ datagram: [UInt8], from: NodeAddress, now: UInt64) -> [GossipDirective] {
        counters.datagramsReceived += 1
        contentBudget.refill(now)
        var reader = WireReader(datagram)
        do {
            guard try reader.byte() == Self.wireVersion else {
                counters.otherVersion += 1
                return []
            }
            let sender = Sender(
                id: try reader.node(), epoch: try reader.number(), version: try reader.number(), address: from)
            if sender.id == me.id {
                if sender.epoch != me.epoch { noteOwnConflict() }
                return []
            }
            guard admits(sender.id) else { return [] }
            guard try reader.raw(siteTag.count) == siteTag else {
                try receiveForeign(&reader, sender, now)
                return drain()
            }
            while !reader.isAtEnd { try receiveMessage(&reader, sender, now) }
            noteHeader(sender, now)
        } catch {
            counters.malformed += 1
        }
        return drain()
    }

    private mutating func receiveMessage(_ reader: inout WireReader, _ sender: Sender, _ now: UInt64) throws {
        guard let code = MessageCode(rawValue: try reader.byte()) else { throw WireError() }
        switch code {
        case .ping:
            let sequence = UInt32(truncatingIfNeeded: try reader.fixed64())
            let target = try reader.fixed64()
            guard target == me.id.value.prefix64, !isLeaving else { return }
            send([Self.answer(.ack, sequence)], to: sender.address, about: sender.id)
        case .pingRequest:
            let sequence = UInt32(truncatingIfNeeded: try reader.fixed64())
            let target = try reader.node()
            relayProbe(of: target, at: try reader.address(), for: sender, sequence, now)
        case .ack: receiveAck(UInt32(truncatingIfNeeded: try reader.fixed64()), sender, now)
        case .nack: receiveNack(UInt32(truncatingIfNeeded: try reader.fixed64()))
        case .member:
            let claim = try MemberClaim(from: &reader)
            apply(claim, sender: sender, now)
        case .delta: try receiveDelta(&reader, sender, now)
        case .version:
            let node = try reader.node()
            noteVersion(of: node, epoch: try reader.number(), version: try reader.number(), from: sender.address, now)
        case .fragment: try receiveFragment(&reader, sender, now)
        case .fragmentWanted: try receiveFragmentWanted(&reader, sender)
        case .stateHash:
            try compareState(&reader, sender, now)
        case .streamNeeded: requestStateByStream(sender, now)
        case .site: try receiveSite(&reader, sender, isForeign: false, now)
        }
    }

    /// Who sent a datagram shows in its head: strangers are asked who they are, the dead are told so, who is ahead is asked for more.
    private mutating func noteHeader(_ sender: Sender, _ now: UInt64) {
        guard let member = members[sender.id] else { return contact(sender, now) }
        if sender.epoch > member.epoch { return contact(sender, now) }
        switch member.state {
        case .alive, .suspect: noteVersion(of: sender.id, epoch: sender.epoch, version: sender.version, from: sender.address, now)
        case .dead:
            guard mayContact(sender.id, now) else { return }
            send([MemberClaim(.dead, member, by: me.id).message], to: sender.address, about: nil)
        case .left: break
        }
    }

    private mutating func contact(_ sender: Sender, _ now: UInt64) {
        if !isLeaving, mayContact(sender.id, now) { requestState(at: sender.address, now) }
    }

    /// At most once a second for each node.
    mutating func mayContact(_ id: NodeID, _ now: UInt64) -> Bool {
        if let last = strangers[id], now < last &+ .second { return false }
        if strangers.count >= GossipLimits.strangers {
            strangers = strangers.filter { now < $0.value &+ .second }
            if strangers.count >= GossipLimits.strangers { return false }
        }
        strangers[id] = now
        return true
    }

    // MARK: Joining and leaving

    /// The address at which this node listens, once known; to be called before `join`. An unspecified one is replaced as `init` says.
    public mutating func listens(at address: NodeAddress) { me.address = address }

    /// Asks the nodes at `addresses` for the mesh, again and again with back-off while no other member is alive. Addresses add up,
    /// the oldest give way beyond `GossipLimits.joinAddresses`.
    public mutating func join(_ addresses: [NodeAddress], now: UInt64) -> [GossipDirective] {
        let new = addresses.filter { $0 != me.address && !joinAddresses.contains($0) && $0.port != 0 }
        joinAddresses = (joinAddresses + new).suffix(GossipLimits.joinAddresses)
        joinDelay = configuration.joinRetry
        if !isLeaving {
            for address in new { requestState(at: address, now) }
            nextJoin = now &+ joinDelay
        }
        return drain()
    }

    private mutating func sendJoin(_ now: UInt64) {
        for address in joinAddresses where !isKnownForeign(address) {
            requestState(at: address, now)
            // Datagrams had their chance, and may be blocked.
            if joinDelay > configuration.joinRetry, streamProbes[address] == nil, streamProbes.count < GossipLimits.streamProbes {
                streamProbes[address] = StreamProbe(isJoin: true)
                out.append(.exchangeState(with: .unknown(at: address), at: address, request(nil, noStream: false)))
            }
        }
        joinDelay = min(max(joinDelay, configuration.joinRetry) &* 2, configuration.joinRetryCap)
        // Spread by a quarter, so that nodes that started together don't ask together.
        nextJoin = now &+ joinDelay &+ random.next(upperBound: joinDelay / 4 + 1)
    }

    /// A datagram that tells any node who receives it (by multicast, say) that this one is here.
    public func announcement() -> [UInt8] { header + MemberClaim(.alive, me, by: me.id).message }

    /// Says goodbye. Go on ticking until `hasLeft`, or for as long as you like to wait.
    public mutating func leave(now: UInt64) -> [GossipDirective] {
        guard !isLeaving else { return [] }
        isLeaving = true
        me.state = .left
        probes = [:]
        let message = MemberClaim(.left, me, by: me.id).message
        queue.put(.member(me.id), message: message)
        for id in picks(GossipLimits.directGoodbyes, from: roster) {
            if let member = members[id] { send([message], to: member.address, about: nil, gossip: false) }
        }
        nextGossip = min(nextGossip, now &+ configuration.gossipInterval)
        return drain()
    }

    /// The goodbye was told often enough, or there is nobody to tell.
    public var hasLeft: Bool { isLeaving && (roster.isEmpty || !queue.contains(.member(me.id))) }

    /// Other members that live, as far as is known here.
    public var liveCount: Int { roster.count }
    /// There is something that this node has still to tell.
    package var hasNews: Bool { !queue.isEmpty || !pending.isEmpty }

    // MARK: Parts that all topics use

    mutating func drain() -> [GossipDirective] {
        defer { out = [] }
        return out
    }

    mutating func emit(_ event: GossipEvent) { out.append(.event(event)) }

    /// Every datagram starts so: version, sender, how far what it publishes has come, and its site.
    var header: [UInt8] {
        var writer = WireWriter()
        writer.byte(Self.wireVersion)
        writer.node(me.id)
        writer.number(me.epoch)
        writer.number(contents.nodes[me.id]?.version ?? 0)
        writer.raw(siteTag)
        return writer.bytes
    }

    /// Sends `messages` and, behind them, as much gossip as the datagram holds.
    /// - Parameter about: the receiver, who is told first when it is suspected (Lifeguard's buddy system).
    mutating func send(_ messages: [[UInt8]], to address: NodeAddress, about: NodeID?, gossip: Bool = true) {
        var bytes = header
        for message in messages { bytes += message }
        if let about, let member = members[about], member.state == .suspect {
            bytes += MemberClaim(.suspect, member, by: me.id).message
        }
        if gossip { bytes += takeGossip(space: GossipLimits.datagramBytes - bytes.count) }
        counters.datagramsSent += 1
        counters.bytesSent += UInt64(bytes.count)
        out.append(.send(to: address, bytes))
    }

    /// Up to `count` different elements, at random.
    mutating func picks<T>(_ count: Int, from all: [T]) -> [T] { picks(count, of: all.count).map { all[$0] } }

    /// Up to `count` different numbers below `total`, at random and in random order.
    mutating func picks(_ count: Int, of total: Int) -> [Int] {
        if total <= 2 * count { return Array(Array(0..<total).shuffled(using: &random).prefix(count)) }
        var chosen: [Int] = []
        while chosen.count < count {
            let place = Int.random(in: 0..<total, using: &random)
            if !chosen.contains(place) { chosen.append(place) }
        }
        return chosen
    }

    /// ⌈log10(members + 1)⌉, and at least one.
    private var digits: Int {
        var digits = 1
        var rest = roster.count + 1
        while rest >= 10 {
            digits += 1
            rest /= 10
        }
        return digits
    }
    /// How often a member's state is told, and what a node holds.
    var memberRetransmits: Int { configuration.retransmitMultiplier * digits }
    var contentRetransmits: Int { configuration.contentRetransmits + digits - 1 }
}

/// Where a datagram came from.
struct Sender {
    let id: NodeID
    let epoch: UInt64
    let version: UInt64
    let address: NodeAddress
}

enum MessageCode: UInt8 {
    case ping = 1
    case pingRequest = 2
    case ack = 3
    case nack = 4
    case member = 5
    case delta = 6
    case version = 7
    case fragment = 8
    case fragmentWanted = 9
    case stateHash = 10
    case streamNeeded = 11
    case site = 20
}

extension GossipLimits {
    /// Members that are told at once when this node leaves; gossip tells the rest.
    static let directGoodbyes = 8
    /// So long after its start a node does not pass on the members that it finds.
    static let newTime: UInt64 = 3 * .second
}
