public import MeshKeys

/// Nodes that hold the key and are no members all the same: not listed, or revoked.
extension GossipMachine {
    /// Who is a member from now on. Those that no longer are leave at once: their facts, claims and bitmaps are dropped, and nothing that
    /// is said of them or comes in their name is heard.
    public mutating func setGate(_ new: MemberGate, now: UInt64) -> [GossipDirective] {
        gate = new
        for member in members.values.filter({ !new.admits($0.id) }) { expel(member) }
        return drain()
    }

    private mutating func expel(_ member: Member) {
        if let place = roster.firstIndex(of: member.id) {
            roster.remove(at: place)
            if place < rosterNext { rosterNext -= 1 }
        }
        for (sequence, probe) in probes where probe.target == member.id { probes[sequence] = nil }
        for (sequence, relay) in relayed where relay.target == member.id { relayed[sequence] = nil }
        suspicions[member.id] = nil
        let content = contents.nodes[member.id]
        forget(member.id)
        var gone = member
        gone.state = .left
        emit(.left(gone))
        if content?.facts.isEmpty == false { emit(.factsChanged(of: member.id)) }
        for digest in content.map({ Array($0.slots.values) }) ?? [] { emit(.availabilityChanged(of: member.id, digest)) }
    }

    /// Counts what is kept out.
    mutating func admits(_ node: NodeID) -> Bool {
        if gate.admits(node) { return true }
        counters.notAdmitted += 1
        return false
    }

    // MARK: Members of one host

    /// Whether one more member may have this address. A machine runs few nodes, and inventing members shall not push real ones out.
    func hasPlace(at address: NodeAddress) -> Bool {
        address.isLoopback || hosts[address.ip, default: 0] < GossipLimits.membersPerHost
    }

    mutating func moveMember(from old: NodeAddress?, to new: NodeAddress?) {
        guard old?.ip != new?.ip else { return }
        if let old {
            let left = hosts[old.ip, default: 0] - 1
            hosts[old.ip] = left > 0 ? left : nil
        }
        if let new { hosts[new.ip, default: 0] += 1 }
    }
}

extension GossipLimits {
    /// Members with one IP address (loopback excepted); more are refused and counted.
    public static let membersPerHost = 64
}
