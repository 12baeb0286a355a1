internal import ChunkModel
internal import MeshKeys

/// Some of the shares into which all members are divided by their ids, for comparing and asking.
struct StateShares: Sendable {
    /// Shares there are: a power of two, at most 64.
    let count: Int
    /// Bit i: share i.
    var mask: UInt64

    init(count: Int, mask: UInt64 = 0) { (self.count, self.mask) = (count, mask) }

    static func share(of id: NodeID, count: Int) -> Int { Int(truncatingIfNeeded: SplitMix64.mix(id.value.prefix64) & UInt64(count - 1)) }

    func contains(_ id: NodeID) -> Bool { mask >> UInt64(Self.share(of: id, count: count)) & 1 == 1 }

    func encode(to writer: inout WireWriter) {
        writer.number(count)
        writer.fixed64(mask)
    }

    init(from reader: inout WireReader) throws {
        count = try Self.count(from: &reader)
        mask = try reader.fixed64()
    }

    static func count(from reader: inout WireReader) throws -> Int {
        let count = try reader.number(upTo: GossipLimits.stateShares)
        guard count > 0, count & (count - 1) == 0 else { throw WireError() }
        return count
    }
}

/// The periodic comparison. Two nodes that know the same exchange one datagram whatever the number of members; where they differ, the
/// records of the members in some of the shares that differ.
extension GossipMachine {
    /// Hashes of the shares, each the same for two nodes that know the same members of it with the same versions.
    func stateHashes(count: Int) -> [UInt32] {
        var sums = [UInt64](repeating: 0, count: count)
        sums[StateShares.share(of: me.id, count: count)] &+= Self.hash(me, contents.nodes[me.id]?.version ?? 0)
        for id in roster {
            guard let member = members[id] else { continue }
            sums[StateShares.share(of: id, count: count)] &+= Self.hash(member, contents.nodes[id]?.version ?? 0)
        }
        return sums.map { UInt32(truncatingIfNeeded: $0) }
    }

    private static func hash(_ member: Member, _ version: UInt64) -> UInt64 {
        SplitMix64.mix(member.id.value.prefix64 ^ SplitMix64.mix(member.incarnation ^ SplitMix64.mix(version &+ 1)))
    }

    var stateHashMessage: [UInt8] {
        var count = 1
        while count < GossipLimits.stateShares, roster.count + 1 > GossipLimits.membersPerShare * count { count *= 2 }
        var writer = WireWriter()
        writer.byte(MessageCode.stateHash.rawValue)
        writer.number(roster.count + 1)
        writer.number(count)
        for hash in stateHashes(count: count) {
            for shift in stride(from: UInt32(0), to: 32, by: 8) { writer.byte(UInt8(truncatingIfNeeded: hash >> shift)) }
        }
        return writer.bytes
    }

    mutating func compareState(_ reader: inout WireReader, _ sender: Sender, _ now: UInt64) throws {
        let theirMembers = try reader.number(upTo: GossipLimits.members + 1)
        var shares = StateShares(count: try StateShares.count(from: &reader))
        let own = stateHashes(count: shares.count)
        var different: [Int] = []
        for share in 0..<shares.count {
            var hash: UInt32 = 0
            for shift in stride(from: UInt32(0), to: 32, by: 8) { hash |= UInt32(try reader.byte()) << shift }
            if hash != own[share] { different.append(share) }
        }
        guard !different.isEmpty, members[sender.id]?.state.isLive == true else { return }
        // Parts of the mesh that just met need everything.
        let apart = abs(theirMembers - roster.count - 1)
        if shares.count == 1 || apart > max(theirMembers, roster.count) / 8 { return requestState(at: sender.address, now) }
        for share in picks(GossipLimits.sharesAtOnce, from: different) { shares.mask |= 1 << UInt64(share) }
        requestState(in: shares, at: sender.address, now)
    }
}

extension GossipLimits {
    /// Shares of the members that are compared one by one: at most so many, of about so many members.
    static let stateShares = 64
    static let membersPerShare = 32
    /// Shares that one comparison has evened out; if more differ, others will do the rest.
    static let sharesAtOnce = 4
}
