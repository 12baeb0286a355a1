import ChunkModel
import MeshKeys
import Testing

@testable import Gossip

/// Members that hold the key and lie about others.
@Suite struct SigningTests {
    let identities = (0..<4).map { NodeIdentity(seed: [UInt8](repeating: UInt8($0 + 1), count: 32))! }
    func address(_ i: Int) -> NodeAddress { NodeAddress(ip: [10, 0, 0, UInt8(i + 1)], port: 7946)! }

    func machine(_ i: Int, address: NodeAddress? = nil) -> GossipMachine {
        let me = Member(id: identities[i].id, name: "n\(i)", site: "lab", address: address ?? self.address(i), incarnation: 100)
        return GossipMachine(me: me, signing: MemberSigning(identity: identities[i]), seed: UInt64(i), now: 0)
    }

    /// What node `i` says in a datagram.
    func say(_ claims: [MemberClaim], as i: Int) -> [UInt8] { machine(i).header + claims.flatMap(\.message) }

    /// A machine of node 0 that knows node 1.
    func acquainted() -> GossipMachine {
        var machine = machine(0)
        _ = machine.receive(self.machine(1).announcement(), from: address(1), now: 0)
        return machine
    }

    @Test func whatANodeSaysOfItselfIsBelieved() {
        let machine = acquainted()
        #expect(machine.members[identities[1].id]?.name == "n1")
        #expect(machine.counters.forged == 0)
    }

    @Test func nobodyRaisesAnothersIncarnationOrMovesIt() {
        var victim = acquainted()
        var forged = machine(1).me
        forged.incarnation = 1_000
        forged.address = address(2)
        for state in [MemberState.alive, .suspect, .dead] {
            _ = victim.receive(say([MemberClaim(state, forged, by: identities[2].id)], as: 2), from: address(2), now: 0)
        }
        let known = victim.members[identities[1].id]
        #expect(known?.incarnation == 100 && known?.address == address(1) && known?.state == .alive)
        #expect(victim.counters.forged == 3)
    }

    @Test func nobodySaysGoodbyeForAnother() {
        var victim = acquainted()
        _ = victim.receive(say([MemberClaim(.left, machine(1).me, by: identities[1].id)], as: 2), from: address(2), now: 0)
        #expect(victim.members[identities[1].id]?.state == .alive)
        var leaving = machine(1)
        _ = leaving.receive(machine(0).announcement(), from: address(0), now: 0)
        for case .send(_, let bytes) in leaving.leave(now: 0) { _ = victim.receive(bytes, from: address(1), now: 0) }
        #expect(victim.members[identities[1].id]?.state == .left)
    }

    @Test func aGoodbyeThatAnotherBringsIsTheNodesOwn() {
        // Node 2 hears the goodbye; node 0 learns of it in a state exchange.
        var (teller, hearer) = (machine(2), acquainted())
        _ = teller.receive(machine(1).announcement(), from: address(1), now: 0)
        var leaving = machine(1)
        _ = leaving.receive(machine(2).announcement(), from: address(2), now: 0)
        for case .send(_, let bytes) in leaving.leave(now: 0) { _ = teller.receive(bytes, from: address(1), now: 0) }
        #expect(teller.members[identities[1].id]?.state == .left)
        var pending = teller.join([address(0)], now: 0).map { (2, $0) }
        for _ in 0..<10 {
            var next: [(Int, GossipDirective)] = []
            for case (let from, .send(_, let bytes)) in pending {
                if from == 2 {
                    next += hearer.receive(bytes, from: address(2), now: 0).map { (0, $0) }
                } else {
                    next += teller.receive(bytes, from: address(0), now: 0).map { (2, $0) }
                }
            }
            pending = next
        }
        #expect(hearer.members[identities[1].id]?.state == .left)
        #expect(hearer.counters.forged == 0)
    }

    @Test func anAccusedNodeRefutesAndOnlyItselfRaisesItsIncarnation() {
        var accused = machine(0)
        var high = accused.me
        high.incarnation = 1 << 60
        _ = accused.receive(say([MemberClaim(.suspect, high, by: identities[2].id)], as: 2), from: address(2), now: 0)
        #expect(accused.me.incarnation == 100, "an invented incarnation is no reason to go there")
        _ = accused.receive(say([MemberClaim(.dead, accused.me, by: identities[2].id)], as: 2), from: address(2), now: 0)
        #expect(accused.me.incarnation == 101)
        #expect(accused.counters.refutations == 1)
    }

    @Test func aNodeBelievesItsOwnEarlierRunWithAClockThatWentAhead() {
        var earlier = machine(0).me
        earlier.incarnation = 5_000
        earlier.epoch = 5_000
        earlier.sign(MemberSigning(identity: identities[0]))
        var now = machine(0)
        _ = now.receive(say([MemberClaim(.alive, earlier, by: earlier.id)], as: 2), from: address(2), now: 0)
        #expect(now.me.incarnation == 5_001)
    }

    @Test func anAddressThatOthersFilledInIsTheNodesToCorrect() {
        // It does not know its address; where it was seen is put in by who heard it.
        let unspecified = machine(1, address: NodeAddress("0.0.0.0:7946")!)
        var first = machine(0)
        _ = first.receive(unspecified.announcement(), from: address(1), now: 0)
        #expect(first.members[identities[1].id]?.address == address(1))
        let told = first.members[identities[1].id].map { say([MemberClaim(.alive, $0, by: $0.id)], as: 0) }
        var third = machine(3)
        _ = third.receive(told ?? [], from: address(0), now: 0)
        #expect(third.members[identities[1].id]?.address == address(1))
        // Once the node knows its address, it signs it, and nobody can put another one there.
        var stated = machine(1)
        stated.me.incarnation = 101
        _ = third.receive(stated.announcement(), from: address(1), now: 0)
        var moved = first.members[identities[1].id]!
        moved.address = address(2)
        _ = third.receive(say([MemberClaim(.alive, moved, by: moved.id)], as: 2), from: address(2), now: 0)
        #expect(third.members[identities[1].id]?.address == address(1) && third.counters.forged == 0)
    }

    @Test func forgersCostLittle() {
        var victim = acquainted()
        var events: [GossipDirective] = []
        for i in 0..<100 {
            var forged = machine(1).me
            forged.incarnation = 1_000 + UInt64(i)
            events += victim.receive(say([MemberClaim(.alive, forged, by: forged.id)], as: 2), from: address(2), now: 0)
        }
        #expect(victim.counters.forged == 100)
        #expect(events.filter { $0 == .event(.forgeries(from: address(2))) }.count == 1)
        // Others are believed meanwhile, and the host itself a while later.
        _ = victim.receive(machine(3).announcement(), from: address(3), now: 1)
        #expect(victim.members[identities[3].id] != nil)
        _ = victim.receive(machine(2).announcement(), from: address(2), now: 1)
        #expect(victim.members[identities[2].id] == nil)
        _ = victim.receive(machine(2).announcement(), from: address(2), now: ForgeryBook.period + 1)
        #expect(victim.members[identities[2].id] != nil)
    }

    @Test func inventedMembersOfOneHostAreBounded() {
        var victim = machine(0)
        for i in 0..<200 {
            let identity = NodeIdentity.random()
            var invented = Member(id: identity.id, name: "x\(i)", site: "lab", address: address(2), incarnation: 1)
            invented.sign(MemberSigning(identity: identity))
            _ = victim.receive(say([MemberClaim(.alive, invented, by: invented.id)], as: 2), from: address(2), now: 0)
        }
        #expect(victim.members.count == GossipLimits.membersPerHost)
        #expect(victim.counters.membersRefused == 200 - UInt64(GossipLimits.membersPerHost))
        _ = victim.receive(machine(1).announcement(), from: address(1), now: 0)
        #expect(victim.members[identities[1].id] != nil)
    }

    @Test func whoIsNoMemberIsForgottenAndNotHeard() {
        var victim = acquainted()
        let events = victim.setGate(MemberGate(revoked: [identities[1].id]), now: 0)
        #expect(
            victim.members.isEmpty
                && events.contains { if case .event(.left(let member)) = $0 { member.id == identities[1].id } else { false } })
        _ = victim.receive(machine(1).announcement(), from: address(1), now: 0)
        // Nor what others say of it.
        _ = victim.receive(say([MemberClaim(.alive, machine(1).me, by: identities[1].id)], as: 2), from: address(2), now: 0)
        #expect(victim.members[identities[1].id] == nil)
        #expect(victim.counters.notAdmitted == 2)
        _ = victim.setGate(MemberGate(allowed: [identities[0].id, identities[3].id]), now: 0)
        _ = victim.receive(machine(2).announcement(), from: address(2), now: 0)
        _ = victim.receive(machine(3).announcement(), from: address(3), now: 0)
        #expect(Set(victim.members.keys) == [identities[3].id])
    }

    @Test func aRequestInAnothersNameGetsNoAnswerByStream() {
        var (asker, asked) = (machine(1), machine(0))
        // Large enough to go by stream: asked for at a member that said so.
        _ = asker.receive(machine(0).announcement(), from: address(0), now: 0)
        let request = asker.join([address(0)], now: 0)
        _ = request
        guard
            case .exchangeState(_, _, let bytes)? = asker.receive(
                machine(0).header + [MessageCode.streamNeeded.rawValue], from: address(0), now: 0
            ).last
        else { return #expect(Bool(false)) }
        let wrong = asked.receiveStateRequest(bytes, from: address(2), asker: identities[2].id, now: 0)
        #expect(wrong.reply.isEmpty && asked.members.isEmpty && asked.counters.forged == 1)
        let right = asked.receiveStateRequest(bytes, from: address(1), asker: identities[1].id, now: 0)
        #expect(!right.reply.isEmpty && asked.members[identities[1].id] != nil)
    }
}
