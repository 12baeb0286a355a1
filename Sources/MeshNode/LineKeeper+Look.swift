internal import FetchPlanner
internal import Gossip
internal import LineBudget
internal import MeshKeys
internal import UpstreamStores

/// What follows from what this node does and what the others say.
extension LineKeeper.State {
    struct Outcome: Sendable {
        var newShare: UInt64?
        var hold = ReceiveRate.Hold.nobody
        var fact: LineNote?
        var message: LineNote?
        var addressees: [Member] = []
        var newGate: LineGate?
        var shown = LineKeeper.Site.Shown.open
        var savesNow = false
        var bookPartner: Member?
    }

    var record: LineRecord {
        var record = LineRecord()
        (record.pause, record.book) = (pause, book)
        return record
    }

    func urgency(now: Duration) -> LineDemand.Urgency {
        if readers > 0 || now < readersUntil { return .foreground }
        return uses.count > readers || now < prefetchesUntil ? .background : .none
    }

    /// Puts what the rate has charged since the last time into the book.
    mutating func enterSpending(rate: ReceiveRate, me: NodeID) {
        let charged = rate.charged
        guard charged > booked else { return }
        book.add(charged - booked, by: me.value.bytes, day: LineCap.day(of: WallClock.local(WallClock.now)))
        booked = charged
    }

    mutating func update(
        _ members: [(member: Member, note: LineNote?)], me: NodeID, rate: ReceiveRate, now: Duration, tellsAll: Bool
    ) -> Outcome {
        var outcome = Outcome()
        let wall = WallClock.now
        let local = WallClock.local(wall)
        (lookAt, lookedAt) = (nil, now)
        enterSpending(rate: rate, me: me)
        if now >= nextInterval {
            nextInterval = now + LineKeeper.interval
            heard = heard.filter { now - $0.value.at < LineKeeper.heardTime }
            measureNeed(rate: rate, now: now)
        }
        holds = holds.filter { $0.value > now }

        let notes = members.compactMap { member, fact -> (Member, LineNote)? in
            let message = heard[member.id]?.note
            if let message, message.sequence >= fact?.sequence ?? 0 { return (member, message) }
            return fact.map { (member, $0) }
        }
        let today = LineCap.day(of: local)
        for (member, note) in notes {
            pause = pause.merged(with: note.pause)
            for spent in note.days where spent.day <= today &+ 2 { book.merge(member.id.value.bytes, day: spent.day, spent.bytes) }
        }
        let gateBefore = site.gate
        settle(notes.map(\.1), wall: wall, local: local)
        if site.gate != gateBefore { outcome.newGate = site.gate }
        outcome.shown = site.shown

        let urgency = urgency(now: now)
        let demand = urgency == .none ? LineDemand.none : LineDemand(urgency, need: need)
        let before = budget.share
        // What is under way when the line is closed is finished, at the rate that it has.
        if !site.rate.isOff {
            let others = notes.map { LineBudget.Peer(demand: $0.1.demand, share: $0.1.share == .max ? 0 : $0.1.share) }
            let share = budget.update(rate: site.rate.bytesPerSecond, demand: demand, others: others, nodes: members.count + 1, now: now)
            if share != before || now == .zero || !isShareSet {
                outcome.newShare = share
                isShareSet = true
            }
        }
        hold = !holds.isEmpty ? .all : urgency == .foreground ? .prefetches : .nobody
        outcome.hold = hold
        tell(&outcome, demand: demand, members: members.map(\.member), notes: notes, local: local, me: me, now: now, all: tellsAll)
        if now >= nextSave, record != saved, !isSaving {
            (isSaving, nextSave) = (true, now + LineKeeper.saveInterval)
            outcome.savesNow = true
        }
        if now >= nextBook, let partner = members.map(\.member).min(by: { Self.turn($0.id, now) < Self.turn($1.id, now) }) {
            nextBook = now + (booked != bookedAtExchange ? LineKeeper.bookInterval : LineKeeper.idleBookInterval)
            bookedAtExchange = booked
            outcome.bookPartner = partner
        }
        return outcome
    }

    /// Another partner each time, without dice.
    private static func turn(_ node: NodeID, _ now: Duration) -> UInt64 {
        (node.value.prefix64 ^ UInt64(bitPattern: now.components.seconds)) &* 0x9e37_79b9_7f4a_7c15
    }

    /// What the site may do now, and why not more.
    private mutating func settle(_ notes: [LineNote], wall: Int64, local: LocalTime) {
        let configured = maxRate.map { LineRate(bitsPerSecond: $0) } ?? .unlimited
        let mine = windows.rate(at: local, otherwise: configured)
        let theirs = notes.map(\.rate).min() ?? .unlimited
        var new = LineKeeper.Site()
        (new.rate, new.rateIsMine) = (min(mine, theirs), mine <= theirs)
        new.cap = ([cap?.bytes ?? 0] + notes.map(\.cap)).filter { $0 > 0 }.min() ?? 0
        let firstDay = cap?.firstDay ?? 1
        new.spentMonth = book.bytes(in: LineCap.days(of: local, firstDay: firstDay))
        let today = LineCap.day(of: local)
        new.spentDay = book.bytes(in: today...today)
        let extent = pause.extent(at: wall)
        let pauseEnd = pause.until > 0 ? pause.until : nil
        if extent == .all {
            new.shown = .stopped
            new.until = pauseEnd
            new.reason = "the line to upstream is stopped\(Self.spoken(pauseEnd, wall)); chunkmesh line resume opens it"
        } else if new.rate.isOff {
            new.shown = .off
            // The same until changes again; only looked for when it has.
            new.until = new.rateIsMine ? (site.shown == .off && site.until ?? 0 > wall ? site.until : nextChange(wall, configured)) : nil
            new.reason =
                "the line to upstream is switched off at this hour by upstream.windows\(new.rateIsMine ? "" : " of another node")\(Self.spoken(new.until, wall))"
        } else if new.cap > 0, new.spentMonth >= new.cap {
            new.shown = .capReached
            new.until = WallClock.nextMonth(after: wall, firstDay: firstDay)
            new.reason = "upstream.monthlyCap is used up: \(new.spentMonth) of \(new.cap) bytes\(Self.spoken(new.until, wall))"
        } else if extent == .background {
            new.shown = .paused
            new.until = pauseEnd
            new.reason = "prefetches are paused\(Self.spoken(pauseEnd, wall)); chunkmesh line resume lets them go on"
        }
        switch new.shown {
        case .open: new.gate = .open
        case .paused: new.gate = .readsOnly
        case .stopped, .off, .capReached: new.gate = .closed(new.reason ?? "")
        }
        site = new
    }

    private func nextChange(_ wall: Int64, _ configured: LineRate) -> Int64? {
        windows.nextChange(after: wall, otherwise: configured, local: WallClock.local)
    }

    private static func spoken(_ until: Int64?, _ now: Int64) -> String { until.map { " until \(WallClock.spoken($0, now: now))" } ?? "" }

    /// All there is for a node that its share holds back; for others half as much again as they use, so that they can want more.
    private mutating func measureNeed(rate: ReceiveRate, now: Duration) {
        let passed = (now - needLook).seconds
        let charged = rate.charged
        defer { (needLook, chargedThen) = (now, charged) }
        guard !rate.takeThrottled(), passed > 0.5, needLook > .zero, budget.share != .max else { return need = .max }
        let used = Double(charged - chargedThen) / passed
        let wanted = used * 1.5 + 65_536
        // Small changes are not worth telling everybody.
        if need == .max || wanted > Double(need) || wanted < Double(need) / 2 { need = UInt64(wanted) }
    }

    private mutating func tell(
        _ outcome: inout Outcome, demand: LineDemand, members: [Member], notes: [(Member, LineNote)], local: LocalTime, me: NodeID,
        now: Duration, all: Bool
    ) {
        var note = LineNote()
        note.demand = demand
        note.share = budget.share
        note.isReading = demand.urgency == .foreground
        let configured = maxRate.map { LineRate(bitsPerSecond: $0) } ?? .unlimited
        note.rate = windows.rate(at: local, otherwise: configured)
        note.cap = cap?.bytes ?? 0
        note.pause = pause
        let mine = book.entries[me.value.bytes] ?? [:]
        note.days = mine.sorted { $0.key > $1.key }.prefix(2).map { LineNote.Spent(day: $0.key, bytes: $0.value) }
        note.sequence = told.sequence

        var asTold = note
        asTold.days = told.days
        let isNews = asTold != told
        let spendingInterval = LineKeeper.spendingInterval * max(1, members.count / LineKeeper.spendingNodes)
        let isSpendingDue = note.days != told.days && now - toldFactAt >= spendingInterval
        let readerChanged = note.isReading != told.isReading
        let readerAgain = note.isReading && now - toldPeersAt >= LineKeeper.holdAgain
        guard isNews || isSpendingDue || readerAgain || all else { return }
        // Who needs less than he did is heard by gossip; what others wait for, or must give way to, they hear at once.
        let gaveWay = note.share < told.share || (note.demand.urgency < told.demand.urgency && site.rate != .unlimited)
        let wants = note.demand.urgency > told.demand.urgency && !site.rate.isUnlimited
        let isUrgent = readerChanged || readerAgain || all || ((gaveWay || wants) && (now - toldPeersAt >= LineKeeper.tellAgain || wants))
        sequence += 1
        note.sequence = sequence
        told = note
        toldFactAt = now
        outcome.fact = note
        guard isUrgent else { return }
        toldPeersAt = now
        outcome.message = note
        if members.count <= LineKeeper.maxTold {
            outcome.addressees = members
        } else {
            outcome.addressees = Array(notes.lazy.filter { $0.1.demand.urgency > .none }.map(\.0).prefix(LineKeeper.maxTold))
        }
    }
}
