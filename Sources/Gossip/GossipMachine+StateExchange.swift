internal import ChunkModel
public import MeshKeys

/// Kinds of state messages; the first byte of each.
enum StateKind: UInt8 {
    /// What the asker knows, as a summary.
    case request = 1
    /// What the asker lacks, and which of the asker's records are wanted.
    case reply = 2
    /// The wanted records.
    case push = 3
    /// What other sites hold; by stream only.
    case siteAsk = 4
    case siteTell = 5
}

/// How far the knowledge of one member goes.
struct StateSummary: Sendable {
    let id: NodeID
    let incarnation: UInt64
    let epoch: UInt64
    let state: MemberState
    let version: UInt64
}

/// Bits of a request's second byte.
enum RequestFlag {
    /// Only the listed members are asked for.
    static let partial: UInt8 = 1
    /// The stream does not work: answer in datagrams whatever the size.
    static let noStream: UInt8 = 2
    /// Only some shares of the members are asked for; they stand next.
    static let shares: UInt8 = 4
}

extension GossipMachine {
    // MARK: Shell's side of the stream

    /// A request that another node's machine sent by `exchangeState`. The reply may be empty.
    /// - Parameters:
    ///   - from: where it came from, if it is known and its port is the other's gossip port.
    ///   - asker: who asks, if the stream proved it: a request in another's name gets no answer.
    public mutating func receiveStateRequest(
        _ bytes: [UInt8], from: NodeAddress? = nil, asker: NodeID? = nil, now: UInt64
    ) -> (reply: [UInt8], directives: [GossipDirective]) {
        provenAsker = asker
        defer { provenAsker = nil }
        contentBudget.refill(now)
        let reply = readState(bytes, from: from, limit: GossipLimits.streamStateBytes, isStream: true, now) ?? []
        contentBudget.spend(reply.count)
        return (reply, drain())
    }

    /// The reply to a request made by `exchangeState`.
    public mutating func receiveStateReply(_ bytes: [UInt8], from: NodeAddress, now: UInt64) -> [GossipDirective] {
        // Who answers by stream shows that this node is well, whatever the datagrams said; and where only streams pass, this node has to
        // refute as many suspicions as it has itself.
        if let probe = streamProbes.removeValue(forKey: from), !probe.isJoin {
            raiseAwareness(by: -probe.cost - 1)
            streamsOnlyUntil = now &+ 10 &* configuration.probeInterval
        }
        if !bytes.isEmpty { _ = readState(bytes, from: from, limit: GossipLimits.streamStateBytes, isStream: true, now) }
        return drain()
    }

    /// An exchange by stream came to nothing: for a minute datagrams are used with that address, and the state is asked for again.
    public mutating func stateExchangeFailed(at address: NodeAddress, now: UInt64) -> [GossipDirective] {
        let probe = streamProbes.removeValue(forKey: address)
        // Nobody may be there yet, who is there the next time.
        if probe?.isJoin == true { return drain() }
        streamless = streamless.filter { now < $0.value }
        if streamless.count < GossipLimits.strangers { streamless[address] = now &+ 60 &* .second }
        // A gateway of another site is asked again, or the other one, in its time.
        let isForeign = book.sites.values.contains { $0.addresses.contains { $0.address == address } }
        if !isLeaving, !isForeign, probe == nil { requestState(at: address, now) }
        return drain()
    }

    // MARK: Asking

    /// The periodic comparison with one member; also a knock at a join address that no member has, where another part of the mesh
    /// may be that neither heard of the other.
    mutating func startExchange(_ now: UInt64) {
        rounds = 0
        guard !isLeaving, let id = roster.randomElement(using: &random), let member = members[id] else { return }
        counters.stateExchanges += 1
        send([stateHashMessage], to: member.address, about: id)
        let known = Set(members.values.lazy.filter { $0.state.isLive }.map(\.address))
        if let address = joinAddresses.filter({ $0 != me.address && !known.contains($0) && !isKnownForeign($0) }).randomElement(
            using: &random)
        {
            requestState(at: address, now)
        }
    }

    mutating func requestState(at address: NodeAddress, _ now: UInt64) {
        sendState(request(nil, noStream: isStreamless(address, now)), to: address, now)
    }

    mutating func requestState(of nodes: [NodeID], at address: NodeAddress, _ now: UInt64) {
        sendState(request(nodes, noStream: isStreamless(address, now)), to: address, now)
    }

    mutating func requestStateByStream(_ sender: Sender, _ now: UInt64) {
        guard !isStreamless(sender.address, now), !isLeaving else { return }
        out.append(.exchangeState(with: sender.id, at: sender.address, request(nil, noStream: false)))
    }

    func isStreamless(_ address: NodeAddress, _ now: UInt64) -> Bool { streamless[address].map { now < $0 } ?? false }

    mutating func requestState(in shares: StateShares, at address: NodeAddress, _ now: UInt64) {
        sendState(request(nil, in: shares, noStream: isStreamless(address, now)), to: address, now)
    }

    func request(_ nodes: [NodeID]?, in shares: StateShares? = nil, noStream: Bool) -> [UInt8] {
        var writer = WireWriter()
        writer.byte(StateKind.request.rawValue)
        writer.byte(
            (nodes == nil ? 0 : RequestFlag.partial) | (noStream ? RequestFlag.noStream : 0) | (shares == nil ? 0 : RequestFlag.shares))
        shares?.encode(to: &writer)
        writer.number(contents.nodes[me.id]?.version ?? 0)
        me.encode(to: &writer)
        var listed = nodes.map { $0.compactMap { members[$0] } } ?? members.values.filter { shares?.contains($0.id) ?? true }
        listed.sort { $0.id < $1.id }
        writer.number(listed.count)
        for member in listed {
            writer.node(member.id)
            writer.number(member.incarnation)
            writer.number(member.incarnation &- member.epoch)
            writer.byte(member.state.rawValue)
            writer.number(contents.nodes[member.id]?.version ?? 0)
        }
        return writer.bytes
    }

    /// By datagrams if it is small or there is no other way, else by stream.
    private mutating func sendState(_ bytes: [UInt8], to address: NodeAddress, _ now: UInt64) {
        contentBudget.spend(bytes.count)
        if bytes.count > GossipLimits.datagramStateBytes, !isStreamless(address, now), let peer = member(at: address) {
            out.append(.exchangeState(with: peer, at: address, bytes))
        } else {
            sendFragments(of: bytes, to: address, now)
        }
    }

    private func member(at address: NodeAddress) -> NodeID? {
        var found: NodeID?
        for member in members.values where member.address == address && found.map({ member.id < $0 }) ?? true { found = member.id }
        return found
    }

    // MARK: Answering

    /// Reads any state message; returns the answer to a request, at most `limit` bytes long.
    private mutating func readState(
        _ bytes: [UInt8], from: NodeAddress?, limit: Int, isStream: Bool, _ now: UInt64
    ) -> [UInt8]? {
        do {
            var reader = WireReader(bytes)
            guard let kind = StateKind(rawValue: try reader.byte()) else { throw WireError() }
            switch kind {
            case .request: return try answer(&reader, from: from, limit: limit, now)
            case .reply, .push: try absorb(&reader, from: from, now)
            case .siteAsk where isStream: return try answerSites(bytes, now)
            case .siteTell where isStream: if let from { try absorbSites(bytes, from: from, now) }
            case .siteAsk, .siteTell: throw WireError()
            }
        } catch {
            counters.malformed += 1
        }
        return nil
    }

    /// State that came in datagrams.
    mutating func receiveState(_ bytes: [UInt8], _ sender: Sender, _ now: UInt64) {
        let noStream = bytes.count > 1 && bytes[0] == StateKind.request.rawValue && bytes[1] & RequestFlag.noStream != 0
        let limit = noStream ? GossipLimits.fragmentedBytes : GossipLimits.streamStateBytes
        guard let reply = readState(bytes, from: sender.address, limit: limit, isStream: false, now) else { return }
        if !noStream && reply.count > GossipLimits.datagramStateBytes {
            send([[MessageCode.streamNeeded.rawValue]], to: sender.address, about: sender.id)
        } else {
            contentBudget.spend(reply.count)
            sendFragments(of: reply, to: sender.address, now)
        }
    }

    private mutating func answer(_ reader: inout WireReader, from: NodeAddress?, limit: Int, _ now: UInt64) throws -> [UInt8]? {
        let flags = try reader.byte()
        let shares = flags & RequestFlag.shares == 0 ? nil : try StateShares(from: &reader)
        let askerVersion = try reader.number()
        let asker = try Member(from: &reader)
        // A node of another site gets nothing of this one's; by datagram it is told whose it is.
        guard asker.id != me.id, asker.site == me.site, admits(asker.id) else { return nil }
        if let provenAsker, provenAsker != asker.id {
            counters.forged += 1
            return nil
        }
        var summaries: [StateSummary] = []
        for _ in 0..<(try reader.number(upTo: GossipLimits.members)) {
            let id = try reader.node()
            let incarnation = try reader.number()
            let age = try reader.number()
            guard age <= incarnation, let state = MemberState(rawValue: try reader.byte()) else { throw WireError() }
            summaries.append(
                StateSummary(id: id, incarnation: incarnation, epoch: incarnation - age, state: state, version: try reader.number()))
        }
        var from = from
        if let ip = from?.ip, from?.port == 0 { from = NodeAddress(ip: ip, port: asker.address.port) }
        if let from, asker.state == .alive {
            let sender = Sender(id: asker.id, epoch: asker.epoch, version: askerVersion, address: from)
            apply(MemberClaim(.alive, asker, by: asker.id), sender: sender, now)
        }
        summaries.append(
            StateSummary(
                id: asker.id, incarnation: asker.incarnation, epoch: asker.epoch, state: asker.state, version: askerVersion))
        return reply(to: summaries, asker: asker.id, isPartial: flags & RequestFlag.partial != 0, shares, from: from, limit: limit, now)
    }

    private mutating func reply(
        to summaries: [StateSummary], asker: NodeID, isPartial: Bool, _ shares: StateShares?, from: NodeAddress?, limit: Int, _ now: UInt64
    ) -> [UInt8] {
        var give: [(Member, version: UInt64?)] = []
        var wants: [NodeID] = []
        var seen: Set<NodeID> = [asker]
        let ownVersion = contents.nodes[me.id]?.version ?? 0
        var ownKnown: UInt64?
        for summary in summaries {
            seen.insert(summary.id)
            if summary.id == me.id {
                hear(of: me, in: summary, by: asker, now)
                // A record of an earlier run, with a clock that went ahead: it shows itself by its signature.
                if summary.incarnation > me.incarnation { wants.append(me.id) }
                if summary.epoch == me.epoch { ownKnown = summary.version }
                continue
            }
            guard let known = members[summary.id] else {
                if summary.state.isLive { wants.append(summary.id) }
                continue
            }
            hear(of: known, in: summary, by: asker, now)
            let version = contents.nodes[known.id]?.version ?? 0
            let isBehind = summary.epoch < known.epoch || (summary.epoch == known.epoch && summary.version < version)
            let isAhead = summary.epoch > known.epoch || (summary.epoch == known.epoch && summary.version > version)
            let hasLeft = summary.state == .left && summary.incarnation == known.incarnation && known.state != .left
            if summary.incarnation > known.incarnation || hasLeft || (isAhead && summary.state.isLive) { wants.append(known.id) }
            let knowsLess = (summary.incarnation, summary.state.rawValue) < (known.incarnation, known.state.rawValue)
            if knowsLess || (isBehind && known.state.isLive) {
                give.append((known, summary.epoch == known.epoch ? summary.version : nil))
            }
        }
        if !isPartial {
            for id in roster where !seen.contains(id) && shares?.contains(id) ?? true {
                if let member = members[id] { give.append((member, nil)) }
            }
        }
        give.shuffle(using: &random)
        // This node's own record always stands first.
        give.insert((me, ownKnown ?? (ownVersion == 0 ? 0 : nil)), at: 0)
        return state(.reply, give, wants, from: from, limit: limit, now)
    }

    /// What a summary says about a member's state: doubts are taken as suspicions, which the member can refute.
    private mutating func hear(of known: Member, in summary: StateSummary, by asker: NodeID, _ now: UInt64) {
        var said = known
        said.incarnation = summary.incarnation
        guard summary.incarnation >= known.incarnation, summary.incarnation < 1 << 62 else { return }
        switch summary.state {
        // Of a newer record, and of a goodbye, the record itself is asked for, since it is signed.
        case .alive, .left: break
        case .suspect, .dead:
            if summary.incarnation == known.incarnation {
                apply(MemberClaim(.suspect, said, by: asker), sender: nil, now)
            }
        }
    }

    /// Records of members, each with the changes since the version that the receiver has (`nil`: it has nothing).
    private func state(
        _ kind: StateKind, _ give: [(Member, version: UInt64?)], _ wants: [NodeID], from: NodeAddress?, limit: Int, _ now: UInt64
    ) -> [UInt8] {
        var records = WireWriter()
        var count = 0
        var more = false
        // A want takes 32 bytes, the head less than 64.
        let wants = wants.prefix(max(0, limit / 2 / 32))
        let space = limit - 64 - 32 * wants.count
        for (member, version) in give {
            var record = WireWriter()
            member.encode(to: &record)
            encodeContent(of: member, since: version, to: &record, now)
            if records.count + record.count > space {
                // Too large for any answer of this size: the member is named at least.
                if record.count > space {
                    record = WireWriter()
                    member.encode(to: &record)
                    record.byte(0)
                } else {
                    more = true
                }
                if records.count + record.count > space { continue }
                if more { continue }
            }
            records.raw(record.bytes)
            count += 1
        }
        var writer = WireWriter()
        writer.byte(kind.rawValue)
        writer.byte(more ? 1 : 0)
        writer.node(me.id)
        writer.byte(from == nil ? 0 : 1)
        if let from { writer.address(from) }
        writer.number(count)
        writer.raw(records.bytes)
        writer.number(wants.count)
        for id in wants {
            writer.node(id)
            writer.number(contents.nodes[id]?.epoch ?? 0)
            writer.number(contents.nodes[id]?.version ?? 0)
        }
        return writer.bytes
    }

    private func encodeContent(of member: Member, since: UInt64?, to writer: inout WireWriter, _ now: UInt64) {
        guard member.state.isLive || member.id == me.id, let content = contents.nodes[member.id], content.epoch == member.epoch,
            content.version > since ?? 0
        else { return writer.byte(0) }
        if let segments = content.segments(since: since ?? 0), !segments.isEmpty {
            writer.byte(1)
            Self.encode(segments, of: member.id, epoch: content.epoch, to: &writer)
        } else if let whole = contents.whole(member.id, now: now) {
            writer.byte(2)
            writer.number(content.epoch)
            writer.number(content.version)
            writer.string(whole)
        } else {
            writer.byte(0)
        }
    }

    /// Takes in a reply or push; answers what it wants.
    private mutating func absorb(_ reader: inout WireReader, from: NodeAddress?, _ now: UInt64) throws {
        let more = try reader.byte() == 1
        let teller = try reader.node()
        let seen = try reader.byte() == 1 ? try reader.address() : nil
        guard admits(teller), provenAsker == nil || provenAsker == teller else { return }
        if let seen { hearOwnAddress(seen) }
        let count = try reader.number(upTo: GossipLimits.members + 1)
        isBulk = count > GossipLimits.bulk
        defer { isBulk = false }
        for _ in 0..<count {
            let member = try Member(from: &reader)
            let sender = from.map { Sender(id: teller, epoch: 0, version: 0, address: $0) }
            // Somebody else's word that a member is dead may be old: it gets time to refute.
            let state = member.state == .dead ? .suspect : member.state
            apply(MemberClaim(state, member, by: state == .suspect ? teller : member.id), sender: sender, now)
            try absorbContent(&reader, of: member, from: from ?? member.address, now)
        }
        var wanted: [(Member, version: UInt64?)] = []
        for _ in 0..<(try reader.number(upTo: GossipLimits.members)) {
            let id = try reader.node()
            let epoch = try reader.number()
            let version = try reader.number()
            guard let member = id == me.id ? me : members[id] else { continue }
            wanted.append((member, member.epoch == epoch ? version : nil))
        }
        guard let from, !isLeaving else { return }
        if !wanted.isEmpty {
            let limit = isStreamless(from, now) ? GossipLimits.fragmentedBytes : GossipLimits.streamStateBytes
            sendState(state(.push, wanted, [], from: from, limit: limit, now), to: from, now)
        }
        if more, rounds < GossipLimits.exchangeRounds {
            rounds += 1
            requestState(at: from, now)
        }
    }

    private mutating func absorbContent(_ reader: inout WireReader, of member: Member, from: NodeAddress, _ now: UInt64) throws {
        switch try reader.byte() {
        case 0: return
        case 1:
            let (node, epoch, segments) = try Self.decodeSegments(&reader)
            guard node == member.id, node != me.id else { return }
            let before = contents.nodes[node]?.version
            try applyDelta(of: node, epoch: epoch, segments, from: from, isNews: false, now)
            if contents.nodes[node]?.version != before { repairs[node] = nil }
        case 2:
            let epoch = try reader.number()
            let version = try reader.number()
            let whole = try reader.string(upTo: GossipLimits.streamStateBytes)
            guard member.id != me.id, let known = members[member.id], known.state != .left else { return }
            let result = try contents.apply(
                whole: whole, version: version, of: known.id, epoch: epoch, isLive: known.state.isLive, now: now,
                claimTimeout: configuration.claimTimeout)
            if case .applied(let touched) = result {
                repairs[known.id] = nil
                tell(touched, of: known.id, now)
            }
        default: throw WireError()
        }
    }
}

extension GossipLimits {
    /// So many members in one message are no news but a mesh that somebody joins.
    static let bulk = 32
}
