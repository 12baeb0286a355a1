internal import ChunkModel
public import MeshKeys

/// A probe under way: it asks the member itself several times, and from `indirectAt` on through others, until `endAt`.
struct Probe: Sendable {
    enum Purpose { case round, check, last }

    let target: NodeID
    let sentAt: UInt64
    /// From one ping of the member itself to the next.
    let step: UInt64
    let indirectAt: UInt64
    let endAt: UInt64
    /// `check`: made because somebody suspects the target, `last`: made before it is buried; neither says anything about this node's own
    /// health.
    let purpose: Purpose
    var pingAt: UInt64
    var isIndirect = false
    var helpers = 0
    var nacks = 0

    var deadline: UInt64 { min(pingAt, isIndirect ? endAt : min(indirectAt, endAt)) }
}

/// A question by stream, since datagrams brought no answer.
struct StreamProbe: Sendable {
    /// What the lack of an answer did to this node's awareness.
    var cost = 0
    /// It goes to a place where a member may be, not to a member.
    var isJoin = false
}

/// A probe made for another node.
struct RelayedProbe: Sendable {
    let target: NodeID
    let origin: NodeAddress
    let sequence: UInt32
    let nackAt: UInt64
    let endAt: UInt64
    var nacked = false

    var deadline: UInt64 { nacked ? endAt : nackAt }
}

extension GossipMachine {
    static func answer(_ code: MessageCode, _ sequence: UInt32) -> [UInt8] {
        var writer = WireWriter()
        writer.byte(code.rawValue)
        writer.fixed64(UInt64(sequence))
        return writer.bytes
    }

    static func ping(_ target: NodeID, _ sequence: UInt32) -> [UInt8] {
        var writer = WireWriter()
        writer.byte(MessageCode.ping.rawValue)
        writer.fixed64(UInt64(sequence))
        writer.fixed64(target.value.prefix64)
        return writer.bytes
    }

    mutating func tickProbes(_ now: UInt64) {
        for sequence in Self.due(probes, now, \.deadline) {
            guard let probe = probes[sequence] else { continue }
            if now >= probe.endAt {
                failProbe(sequence, probe, now)
            } else if !probe.isIndirect, now >= probe.indirectAt {
                askHelpers(sequence, probe)
            } else if let member = members[probe.target], member.state.isLive {
                send([Self.ping(probe.target, sequence)], to: member.address, about: probe.target)
            }
            if now >= probe.pingAt { probes[sequence]?.pingAt = now &+ probe.step }
        }
        for sequence in Self.due(relayed, now, \.deadline) {
            guard let relay = relayed[sequence] else { continue }
            if relay.nacked {
                relayed[sequence] = nil
            } else {
                relayed[sequence]?.nacked = true
                send([Self.answer(.nack, relay.sequence)], to: relay.origin, about: nil)
            }
        }
        guard now >= nextProbe, !roster.isEmpty, !isLeaving else { return }
        nextProbe = now &+ configuration.probeInterval &* UInt64(awareness + 1)
        if rosterNext >= roster.count {
            roster.shuffle(using: &random)
            rosterNext = 0
        }
        let target = roster[rosterNext]
        rosterNext += 1
        startProbe(target, .round, now)
    }

    /// What is due of `waiting`, in an order that does not depend on the process.
    static func due<Key: Comparable, Value>(_ waiting: [Key: Value], _ now: UInt64, _ deadline: (Value) -> UInt64) -> [Key] {
        var keys: [Key] = []
        for (key, value) in waiting where now >= deadline(value) { keys.append(key) }
        return keys.count > 1 ? keys.sorted() : keys
    }

    /// - Parameter purpose: of checks and last probes, which are quicker, there is at most one at a time for each target.
    mutating func startProbe(_ target: NodeID, _ purpose: Probe.Purpose, _ now: UInt64) {
        guard let member = members[target], member.state.isLive, !isLeaving else { return }
        if purpose != .round, probes.values.contains(where: { $0.target == target && $0.purpose == purpose }) { return }
        let time = configuration.probeTime / (purpose == .round ? 4 : 16) &* (purpose == .round ? 4 : 12) &* UInt64(awareness + 1)
        let indirect = configuration.probeTimeout / (purpose == .round ? 1 : 2) &* UInt64(awareness + 1)
        let sequence = UInt32.random(in: .min ... .max, using: &random)
        probes[sequence] = Probe(
            target: target, sentAt: now, step: time / 4, indirectAt: now &+ min(indirect, time), endAt: now &+ time, purpose: purpose,
            pingAt: now &+ time / 4)
        send([Self.ping(target, sequence)], to: member.address, about: target)
    }

    private mutating func askHelpers(_ sequence: UInt32, _ probe: Probe) {
        probes[sequence]?.isIndirect = true
        guard let member = members[probe.target], member.state.isLive else {
            probes[sequence] = nil
            return
        }
        var writer = WireWriter()
        writer.byte(MessageCode.pingRequest.rawValue)
        writer.fixed64(UInt64(sequence))
        writer.node(probe.target)
        writer.address(member.address)
        let helpers = helpers(for: probe.target)
        probes[sequence]?.helpers = helpers.count
        for helper in helpers {
            if let address = members[helper]?.address { send([writer.bytes], to: address, about: helper) }
        }
        send([Self.ping(probe.target, sequence)], to: member.address, about: probe.target)
    }

    /// Members that are thought to live; of a large mesh they are drawn, not sifted.
    private mutating func helpers(for target: NodeID) -> [NodeID] {
        guard roster.count > 64 else {
            return picks(configuration.indirectProbes, from: roster.filter { $0 != target && members[$0]?.state == .alive })
        }
        return Array(
            picks(2 * configuration.indirectProbes, from: roster).filter { $0 != target && members[$0]?.state == .alive }
                .prefix(configuration.indirectProbes))
    }

    private mutating func failProbe(_ sequence: UInt32, _ probe: Probe, _ now: UInt64) {
        probes[sequence] = nil
        counters.probesFailed += 1
        if probe.purpose == .round {
            // Helpers that answer with a nack show that this node is well: only silence counts against it.
            raiseAwareness(by: probe.helpers > 0 ? probe.helpers - min(probe.nacks, probe.helpers) : 1)
        }
        guard let member = members[probe.target], member.state.isLive else { return }
        if probe.purpose == .last {
            suspicions[probe.target]?.lastProbe = .failed
            return
        }
        apply(MemberClaim(.suspect, member, by: me.id), sender: nil, now)
        askByStream(probe.target, cost: probe.purpose == .check ? 0 : max(probe.helpers - probe.nacks, 1), now)
    }

    /// Where datagrams are lost or blocked, streams may pass: the suspect is asked over one. Its answer refutes the suspicion and brings
    /// what it published meanwhile.
    mutating func askByStream(_ id: NodeID, cost: Int, _ now: UInt64) {
        guard let member = members[id], member.state == .suspect, !isLeaving, streamProbes[member.address] == nil,
            streamProbes.count < GossipLimits.streamProbes, !isStreamless(member.address, now)
        else { return }
        streamProbes[member.address] = StreamProbe(cost: cost)
        counters.streamProbes += 1
        // Where only streams pass, this is how members hear of each other; in a large mesh not with every doubt.
        let isWhole = roster.count <= GossipLimits.smallForStreams || Int.random(in: 0..<8, using: &random) == 0
        out.append(.exchangeState(with: id, at: member.address, request(isWhole ? nil : [id], noStream: false)))
    }

    mutating func raiseAwareness(by amount: Int) {
        awareness = min(max(awareness + amount, 0), max(configuration.awarenessCap - 1, 0))
    }

    mutating func receiveAck(_ sequence: UInt32, _ sender: Sender, _ now: UInt64) {
        if let probe = probes.removeValue(forKey: sequence) {
            if probe.purpose == .round { raiseAwareness(by: -1) }
            if probe.purpose == .last { suspicions[probe.target]?.begin(again: now) }
            guard !probe.isIndirect, now < probe.sentAt &+ probe.step, probe.target == sender.id else { return }
            let sample = now &- probe.sentAt
            let before = members[probe.target]?.roundTrip
            members[probe.target]?.roundTrip = before.map { $0 - $0 / 8 + sample / 8 } ?? sample
        } else if let relay = relayed[sequence], relay.target == sender.id {
            relayed[sequence] = nil
            send([Self.answer(.ack, relay.sequence)], to: relay.origin, about: nil)
        }
    }

    mutating func receiveNack(_ sequence: UInt32) {
        probes[sequence]?.nacks += 1
    }

    mutating func relayProbe(of target: NodeID, at address: NodeAddress, for origin: Sender, _ originSequence: UInt32, _ now: UInt64) {
        // Only members are probed, at the address known here: nobody makes this node send to hosts of their choice.
        guard !isLeaving, target != me.id, relayed.count < GossipLimits.relayedProbes, let member = members[target], member.state.isLive
        else { return }
        let sequence = UInt32.random(in: .min ... .max, using: &random)
        relayed[sequence] = RelayedProbe(
            target: target, origin: origin.address, sequence: originSequence, nackAt: now &+ configuration.probeTimeout / 10 &* 6,
            endAt: now &+ 2 &* configuration.probeTimeout)
        send([Self.ping(target, sequence)], to: member.address, about: target)
    }

    /// Hint of the shell: a connection to the node was refused or timed out. It is probed at once.
    public mutating func noteUnreachable(_ node: NodeID, now: UInt64) -> [GossipDirective] {
        startProbe(node, .check, now)
        return drain()
    }
}

extension GossipLimits {
    /// With so few others, a suspect asked by stream is told of all of them.
    static let smallForStreams = 64
    /// Suspects asked by stream at a time; further ones have datagrams only.
    static let streamProbes = 8
}
