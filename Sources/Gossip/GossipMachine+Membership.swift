internal import ChunkModel
internal import MeshKeys

/// The time in which a suspected member can refute, shorter the more members agree (Lifeguard §4.2). Before it is over this node asks
/// the member once more, and buries it only when there is no answer: a refutation that got lost on its way here kills nobody.
struct Suspicion: Sendable {
    enum LastProbe { case toCome, underWay, failed }

    var start: UInt64
    let shortest: UInt64
    let longest: UInt64
    /// Confirmations that bring it down to the shortest.
    let enough: Int
    var accusers: Set<NodeID>
    var lastProbe = LastProbe.toCome
    /// More time, since the member is being asked by stream.
    var reprieve: UInt64 = 0

    var deadline: UInt64 { undisturbed &+ reprieve }

    private var undisturbed: UInt64 {
        let confirmations = max(accusers.count - 1, 0)
        if enough <= 0 || confirmations >= enough { return start &+ shortest }
        // log(c + 1) / log(k + 1) in thousandths, for the few k that occur: no need of floating point logarithms.
        let share = Self.log2Thousandths(confirmations + 1) * 1_000 / max(Self.log2Thousandths(enough + 1), 1)
        return start &+ longest &- (longest - shortest) / 1_000 &* UInt64(min(share, 1_000))
    }

    /// When there is something to do: the last probe, a second before the deadline, or the burial. A probe under way ends by itself.
    var actsAt: UInt64 {
        switch lastProbe {
        case .toCome: max(deadline, start &+ GossipLimits.lastProbe) &- GossipLimits.lastProbe
        case .underWay: .max
        case .failed: deadline
        }
    }

    /// The member answered this node: it stays suspect, since the others wait for its own word, but all the time starts anew.
    mutating func begin(again now: UInt64) {
        (start, accusers, lastProbe, reprieve) = (now, [], .toCome, 0)
    }

    static func log2Thousandths(_ value: Int) -> Int {
        var whole = 0
        var rest = value
        while rest >= 2 {
            rest /= 2
            whole += 1
        }
        // Linear between powers of two is near enough (error below 0.09).
        let power = 1 << whole
        return whole * 1_000 + (value - power) * 1_000 / power
    }
}

extension GossipMachine {
    /// Takes in what somebody says of a member. `sender` is `nil` when this node says so itself.
    mutating func apply(_ claim: MemberClaim, sender: Sender?, _ now: UInt64) {
        var said = claim.member
        guard said.id != me.id else { return hearOfMyself(claim, sender, now) }
        // Nodes of other sites are nobody's members here.
        guard said.site == me.site, admits(said.id), claim.by == said.id || gate.admits(claim.by) else { return }
        if said.address.isUnspecified {
            // Only the node itself is believed that it does not know its address; then it is where it sends from.
            if sender?.id == said.id, let ip = sender?.address.ip, let port = sender?.address.port,
                let seen = NodeAddress(ip: ip, port: said.address.port == 0 ? port : said.address.port)
            {
                said.address = seen
            } else if let known = members[said.id]?.address {
                said.address = known
            } else {
                return
            }
            said.isAddressSeen = true
        }
        let source = sender?.address
        guard let known = members[said.id] else {
            if said.state.isLive, isGenuine(said, .alive, from: source, now) { add(said, now) }
            // A newcomer heard of as suspect is told so, as it were its accuser's doubt.
            if said.state == .suspect, members[said.id] != nil { suspect(said, by: claim.by, now) }
            return
        }
        switch said.state {
        case .alive: if isNews(said, known, from: source, now) { hearAlive(said, known, now) }
        case .suspect:
            if said.incarnation > known.incarnation {
                guard isGenuine(said, .alive, from: source, now) else { return }
                hearAlive(said, known, now)
            }
            suspect(said, by: claim.by, now)
        case .dead:
            guard said.incarnation <= known.incarnation || isGenuine(said, .alive, from: source, now) else { return }
            bury(said, known, as: .dead, now)
        case .left:
            guard said.incarnation >= known.incarnation, known.state != .left, isGenuine(said, .left, from: source, now) else { return }
            bury(said, known, as: .left, now)
        }
    }

    /// An alive record of the same incarnation or an older one changes nothing; a newer one is the node's own word or none.
    private mutating func isNews(_ said: Member, _ known: Member, from source: NodeAddress?, _ now: UInt64) -> Bool {
        said.incarnation <= known.incarnation || isGenuine(said, .alive, from: source, now)
    }

    private mutating func hearOfMyself(_ claim: MemberClaim, _ sender: Sender?, _ now: UInt64) {
        let said = claim.member
        guard !isLeaving else { return }
        if said.state == .alive, said.incarnation < me.incarnation || (said.incarnation == me.incarnation && said.epoch == me.epoch) {
            return
        }
        // Who doubts is answered at once, also when the doubt is old: the refutation did not get there.
        defer { if let sender, said.state != .alive { answerDoubt(sender) } }
        guard said.incarnation >= me.incarnation else { return }
        // A higher incarnation is one of an earlier run with a clock that went ahead, which this node signed; or invented.
        if said.incarnation > me.incarnation, !isGenuine(said, said.state == .left ? .left : .alive, from: sender?.address, now) { return }
        if said.state == .alive {
            noteOwnConflict()
            // Another machine with this identity would answer in turn, and all members be told each time.
            guard now >= nextConflict else { return }
            nextConflict = now &+ GossipLimits.conflictPause
        }
        // A record of an earlier run, or a doubt: both are overruled by a higher incarnation.
        me.incarnation = min(said.incarnation, 1 << 61) + 1
        counters.refutations += 1
        if said.state == .suspect || said.state == .dead { raiseAwareness(by: 1) }
        queue.put(.member(me.id), message: MemberClaim(.alive, me, by: me.id).message)
    }

    /// Somebody else speaks under this node's identity.
    mutating func noteOwnConflict() {
        counters.identityConflicts += 1
        counters.ownIdentityConflicts += 1
    }

    private mutating func answerDoubt(_ sender: Sender) {
        send([MemberClaim(.alive, me, by: me.id).message], to: sender.address, about: nil, gossip: false)
    }

    private mutating func add(_ said: Member, _ now: UInt64) {
        if !hasPlace(at: said.address) || members.count >= GossipLimits.members && !makeRoom() {
            counters.membersRefused += 1
            return
        }
        var member = said
        member.state = .alive
        member.since = now
        members[member.id] = member
        moveMember(from: nil, to: member.address)
        enlist(member.id, now)
        contents.begin(member.id, epoch: member.epoch)
        // The members that a newcomer finds know each other: there is nobody whom it had to tell of them.
        if !isBulk || now >= newUntil { queue.put(.member(member.id), message: MemberClaim(.alive, member, by: member.id).message) }
        emit(.joined(member))
    }

    private mutating func makeRoom() -> Bool {
        let gone = members.values.filter { !$0.state.isLive }.min { ($0.since, $0.id) < ($1.since, $1.id) }
        guard let gone else { return false }
        forget(gone.id)
        return true
    }

    func forgettable(_ member: Member, _ now: UInt64) -> Bool {
        !member.state.isLive && now >= member.since &+ configuration.reapAfter
    }

    mutating func forget(_ id: NodeID) {
        moveMember(from: members[id]?.address, to: nil)
        members[id] = nil
        contents.remove(id)
        dead.removeAll { $0 == id }
        queue.remove(.member(id))
        queue.remove(.content(id))
        repairs[id] = nil
    }

    /// A random place in the part of the round that is still to come.
    private mutating func enlist(_ id: NodeID, _ now: UInt64) {
        noteElection(now)
        roster.append(id)
        let place = Int.random(in: min(rosterNext, roster.count - 1)..<roster.count, using: &random)
        roster.swapAt(place, roster.count - 1)
    }

    private mutating func hearAlive(_ said: Member, _ known: Member, _ now: UInt64) {
        guard said.incarnation > known.incarnation else {
            if said.incarnation == known.incarnation, !said.describesSame(as: known) { counters.identityConflicts += 1 }
            return
        }
        var member = said
        member.state = .alive
        member.roundTrip = known.roundTrip
        member.since = known.state == .alive ? known.since : now
        moveMember(from: known.address, to: member.address)
        members[member.id] = member
        suspicions[member.id] = nil
        let hadFacts = contents.nodes[member.id]?.facts.isEmpty == false
        contents.begin(member.id, epoch: member.epoch)
        if known.epoch != member.epoch {
            repairs[member.id] = nil
            if hadFacts { emit(.factsChanged(of: member.id)) }
        }
        if !known.state.isLive {
            dead.removeAll { $0 == member.id }
            enlist(member.id, now)
            contents.setLive(member.id, true)
        }
        queue.put(.member(member.id), message: MemberClaim(.alive, member, by: member.id).message)
        emit(known.state == .alive ? .updated(member) : .alive(member))
        guard !known.state.isLive else { return }
        emitContentOf(member.id)
        // Back from the other side of a split, perhaps: it knows the others there.
        if known.state == .dead, now >= nextReunion {
            nextReunion = now &+ .second
            // What was published on either side meanwhile is compared soon, and often at first.
            exchangePause = .second
            nextExchange = min(nextExchange, now &+ .second &+ random.next(upperBound: .second))
            requestState(at: member.address, now)
        }
    }

    private mutating func suspect(_ said: Member, by accuser: NodeID, _ now: UInt64) {
        guard let known = members[said.id], said.incarnation >= known.incarnation else { return }
        switch known.state {
        case .dead, .left: return
        case .suspect:
            guard let suspicion = suspicions[said.id], suspicion.accusers.count <= suspicion.enough,
                suspicions[said.id]?.accusers.insert(accuser).inserted == true
            else { return }
            queue.put(.member(said.id), message: MemberClaim(.suspect, known, by: accuser).message)
        case .alive:
            members[said.id]?.state = .suspect
            members[said.id]?.since = now
            let others = roster.count
            let (shortest, enough) = (configuration.suspicionTime, configuration.confirmations)
            suspicions[said.id] = Suspicion(
                start: now, shortest: shortest, longest: shortest &* UInt64(configuration.suspicionMaxFactor),
                enough: others - 1 < enough ? 0 : enough, accusers: [accuser])
            if let member = members[said.id] {
                queue.put(.member(said.id), message: MemberClaim(.suspect, member, by: accuser).message)
                emit(.suspect(member))
            }
            // Enough members see for themselves, so that the suspicion is confirmed or refuted soon; in a large mesh not all.
            if accuser != me.id {
                if Int.random(in: 0..<max(others, 1), using: &random) < GossipLimits.checkers { startProbe(said.id, .check, now) }
            } else if let member = members[said.id] {
                // The suspect hears of it at once, not when gossip comes to it.
                send([MemberClaim(.suspect, member, by: me.id).message], to: member.address, about: nil, gossip: false)
            }
            // A probe would be lost.
            if accuser != me.id, now < streamsOnlyUntil { askByStream(said.id, cost: 0, now) }
        }
    }

    private mutating func bury(_ said: Member, _ known: Member, as state: MemberState, _ now: UInt64) {
        guard said.incarnation >= known.incarnation, known.state.isLive || (known.state == .dead && state == .left) else { return }
        let wasLive = known.state.isLive
        members[said.id]?.state = state
        members[said.id]?.since = now
        members[said.id]?.incarnation = said.incarnation
        if state == .left || said.incarnation > known.incarnation {
            // The goodbye's own words: who is told of it later checks them.
            var record = said
            (record.state, record.since, record.roundTrip) = (state, now, known.roundTrip)
            moveMember(from: known.address, to: record.address)
            members[said.id] = record
        }
        suspicions[said.id] = nil
        repairs[said.id] = nil
        if wasLive {
            noteElection(now)
            if let place = roster.firstIndex(of: said.id) {
                roster.remove(at: place)
                if place < rosterNext { rosterNext -= 1 }
            }
            for (sequence, probe) in probes where probe.target == said.id { probes[sequence] = nil }
        }
        dead.removeAll { $0 == said.id }
        if state == .dead { dead.append(said.id) }
        guard let member = members[said.id] else { return }
        queue.put(.member(said.id), message: MemberClaim(state, member, by: said.id).message)
        queue.remove(.content(said.id))
        contents.setLive(said.id, false)
        emit(state == .dead ? .dead(member) : .left(member))
        if wasLive { emitContentOf(said.id) }
        if state == .left { contents.remove(said.id) }
        // Alone again: look for the mesh where it was found before.
        if roster.isEmpty, !joinAddresses.isEmpty {
            joinDelay = configuration.joinRetry
            nextJoin = now &+ joinDelay
        }
    }

    private mutating func emitContentOf(_ id: NodeID) {
        guard let content = contents.nodes[id] else { return }
        if !content.facts.isEmpty { emit(.factsChanged(of: id)) }
        for digest in content.slots.values { emit(.availabilityChanged(of: id, digest)) }
    }

    mutating func tickSuspicions(_ now: UInt64) {
        for id in Self.due(suspicions, now, \.actsAt) {
            guard let suspicion = suspicions[id], let member = members[id] else {
                suspicions[id] = nil
                continue
            }
            switch suspicion.lastProbe {
            case .toCome:
                suspicions[id]?.lastProbe = .underWay
                startProbe(id, .last, now)
            case .failed where now < streamsOnlyUntil && suspicion.reprieve == 0 && !isStreamless(member.address, now):
                // Where datagrams do not pass, their silence is no proof: the stream has the last word.
                suspicions[id]?.reprieve = now &- suspicion.deadline &+ 2 &* configuration.probeInterval
                askByStream(id, cost: 0, now)
            case .failed:
                suspicions[id] = nil
                bury(member, member, as: .dead, now)
            case .underWay: break
            }
        }
    }

    /// One of the dead is asked again, and what is long gone is forgotten.
    mutating func reconnect(_ now: UInt64) {
        for id in members.values.filter({ forgettable($0, now) }).map(\.id).sorted() { forget(id) }
        guard !isLeaving, let id = dead.randomElement(using: &random), let member = members[id] else { return }
        send([MemberClaim(.dead, member, by: me.id).message], to: member.address, about: nil, gossip: false)
    }
}

extension GossipLimits {
    /// So many members, on average, probe a suspect that they hear of.
    static let checkers = 8
    /// Between two claims to an identity that another machine claims too.
    static let conflictPause: UInt64 = 10 * .second
    /// The last probe of a suspect starts so long before it would be buried.
    static let lastProbe: UInt64 = 1_000 * .millisecond
}
