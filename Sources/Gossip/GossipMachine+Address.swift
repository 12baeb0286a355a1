internal import MeshKeys

extension GossipMachine {
    /// The address that the others have of this node is no longer this machine's. They are asked under which one they see it; the first
    /// that tells another one decides, and all are told, under a higher incarnation.
    public mutating func addressLost(now: UInt64) -> [GossipDirective] {
        guard !isLeaving else { return [] }
        isAddressLost = true
        return stillLost(now: now)
    }

    /// Asks again, as long as nobody has told another address.
    public mutating func stillLost(now: UInt64) -> [GossipDirective] {
        guard isAddressLost, !isLeaving else { return [] }
        for id in picks(configuration.indirectProbes, from: roster) {
            if let address = members[id]?.address { requestState(at: address, now) }
        }
        if roster.isEmpty { for address in joinAddresses { requestState(at: address, now) } }
        return drain()
    }

    /// Somebody tells where this node is seen.
    mutating func hearOwnAddress(_ seen: NodeAddress) {
        guard !seen.isUnspecified, me.address.isUnspecified || isAddressLost,
            let found = NodeAddress(ip: seen.ip, port: me.address.port), found != me.address
        else { return }
        me.address = found
        isAddressLost = false
        // Said anew and signed, so that nobody can put another address in its place.
        me.incarnation = min(me.incarnation, 1 << 61) + 1
        queue.put(.member(me.id), message: MemberClaim(.alive, me, by: me.id).message)
    }
}
