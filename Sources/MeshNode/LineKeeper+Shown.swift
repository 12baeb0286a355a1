internal import ControlModel
internal import Gossip
internal import GossipTransport
internal import LineBudget
internal import MeshKeys

/// The line as people see it.
extension LineKeeper {
    func shown(name: String) -> Line {
        look()
        let members = gossip.siteMembers
        let (site, told, charged, notes, month) = state.withLock { state in
            (
                state.site, state.told, rate.charged, state.heard,
                LineCap.days(of: WallClock.local(WallClock.now), firstDay: state.cap?.firstDay ?? 1)
            )
        }
        let book = state.withLock { $0.book }
        let facts = gossip.read { machine, _ in
            members.map { ($0, machine.facts(of: $0.id)[MeshFacts.lineKey].flatMap(LineNote.init)) }
        }
        func node(_ name: String, _ id: NodeID, _ note: LineNote) -> Line.Node {
            Line.Node(
                name: name, id: id.hex, wants: note.demand.urgency.shown, bitsPerSecond: note.share == .max ? nil : note.share.times(8),
                monthBytes: book.bytes(of: id.value.bytes, in: month))
        }
        let others = facts.compactMap { member, fact -> Line.Node? in
            let message = notes[member.id]?.note
            let latest = [message, fact].compactMap { $0 }.max { $0.sequence < $1.sequence }
            return latest.map { node(member.name, member.id, $0) }
        }
        return Line(
            state: site.shown.rawValue, reason: site.reason, until: site.until,
            bitsPerSecond: site.rate.isUnlimited ? nil : site.rate.bitsPerSecond,
            shareBitsPerSecond: told.share == .max ? nil : told.share.times(8), monthBytes: site.spentMonth, dayBytes: site.spentDay,
            monthlyCap: site.cap == 0 ? nil : site.cap, nodeBytes: charged,
            nodes: [node(name, me, told)] + others.sorted { ($0.name, $0.id) < ($1.name, $1.id) })
    }
}

extension LineDemand.Urgency {
    fileprivate var shown: String {
        switch self {
        case .none: "nothing"
        case .background: "prefetch"
        case .foreground: "read"
        }
    }
}

extension UInt64 {
    fileprivate func times(_ factor: UInt64) -> UInt64 {
        let (product, overflow) = multipliedReportingOverflow(by: factor)
        return overflow ? .max : product
    }
}
