internal import ChunkModel
public import MeshKeys

/// A probe under way. It waits for a direct answer until `indirectAt`, then for anybody's until `endAt`.
struct Probe: Sendable {
    let target: NodeID
    let sentAt: UInt64
    let indirectAt: UInt64
    let endAt: UInt64
    /// Made because somebody suspects the target: says nothing about this node's own health.
    let isCheck: Bool
    var isIndirect = false
    var helpers = 0
    var nacks = 0

    var deadline: UInt64 { isIndirect ? endAt : indirectAt }
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
        for (sequence, probe) in probes where now >= probe.deadline {
            if probe.isIndirect { failProbe(sequence, probe, now) } else { askHelpers(sequence, probe) }
        }
        for (sequence, relay) in relayed where now >= relay.deadline {
            if relay.nacked {
                relayed[sequence] = nil
            } else {
                relayed[sequence]?.nacked = true
                send([Self.answer(.nack, relay.sequence)], to: relay.origin, about: nil)
            }
        }
        guard now >= nextProbe, !roster.isEmpty, !isLeaving else { return }
        let interval = configuration.probeInterval / (roster.count <= GossipLimits.smallMesh ? 2 : 1)
        nextProbe = now &+ interval &* UInt64(awareness + 1)
        if rosterNext >= roster.count {
            roster.shuffle(using: &random)
            rosterNext = 0
        }
        let target = roster[rosterNext]
        rosterNext += 1
        startProbe(target, isCheck: false, now)
    }

    /// - Parameter isCheck: a quicker probe, at most one at a time for each target.
    mutating func startProbe(_ target: NodeID, isCheck: Bool, _ now: UInt64) {
        guard let member = members[target], member.state.isLive, !isLeaving else { return }
        if isCheck, probes.values.contains(where: { $0.target == target && $0.isCheck }) { return }
        let scale = UInt64(awareness + 1)
        let sequence = UInt32.random(in: .min ... .max, using: &random)
        probes[sequence] = Probe(
            target: target, sentAt: now, indirectAt: now &+ configuration.probeTimeout / (isCheck ? 2 : 1) &* scale,
            endAt: now &+ configuration.probeInterval / (isCheck ? 4 : 1) &* (isCheck ? 3 : 1) &* scale, isCheck: isCheck)
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
        let helpers = picks(configuration.indirectProbes, from: roster.filter { $0 != probe.target && members[$0]?.state == .alive })
        probes[sequence]?.helpers = helpers.count
        for helper in helpers {
            if let address = members[helper]?.address { send([writer.bytes], to: address, about: helper) }
        }
        send([Self.ping(probe.target, sequence)], to: member.address, about: probe.target)
    }

    private mutating func failProbe(_ sequence: UInt32, _ probe: Probe, _ now: UInt64) {
        probes[sequence] = nil
        counters.probesFailed += 1
        if !probe.isCheck {
            // Helpers that answer with a nack show that this node is well: only silence counts against it.
            raiseAwareness(by: probe.helpers > 0 ? probe.helpers - min(probe.nacks, probe.helpers) : 1)
        }
        guard let member = members[probe.target], member.state.isLive else { return }
        apply(MemberClaim(.suspect, member, by: me.id), sender: nil, now)
        askByStream(probe.target, cost: probe.isCheck ? 0 : max(probe.helpers - probe.nacks, 1), now)
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
            if !probe.isCheck { raiseAwareness(by: -1) }
            guard !probe.isIndirect, probe.target == sender.id else { return }
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
        startProbe(node, isCheck: true, now)
        return drain()
    }
}

extension GossipLimits {
    /// With so few others, members are probed twice as often: with few probers it takes chance too long to pick a dead one.
    static let smallMesh = 15
    /// With so few others, a suspect asked by stream is told of all of them.
    static let smallForStreams = 64
    /// Suspects asked by stream at a time; further ones have datagrams only.
    static let streamProbes = 8
}
