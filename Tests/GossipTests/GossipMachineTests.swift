import ChunkModel
import MeshKeys
import Testing

@testable import Gossip

@Suite struct GossipMachineTests {
    static func address(_ i: UInt8) -> NodeAddress { NodeAddress(ip: [10, 0, 0, i], port: 7946)! }
    static func id(_ i: UInt8) -> NodeID { NodeID([UInt8](repeating: i, count: 32))! }
    static func member(_ i: UInt8, incarnation: UInt64 = 100) -> Member {
        Member(id: id(i), name: "n\(i)", site: "lab", address: address(i), incarnation: incarnation)
    }
    let flist = FlistDigest(Bytes32([UInt8](repeating: 7, count: 32))!)

    /// Node 1, which heard from node 2.
    func pair() -> GossipMachine {
        var machine = GossipMachine(me: Self.member(1), seed: 1, now: 0)
        hear(&machine, [MemberClaim(.alive, Self.member(2), by: Self.id(2)).message])
        return machine
    }

    @discardableResult
    func hear(_ machine: inout GossipMachine, _ messages: [[UInt8]], from i: UInt8 = 2, now: UInt64 = 1) -> [GossipDirective] {
        let sender = GossipMachine(me: Self.member(i), seed: 1, now: 0)
        return machine.receive(sender.header + messages.flatMap { $0 }, from: Self.address(i), now: now)
    }

    @Test func aDoubtAboutMyselfIsRefutedWithAHigherIncarnation() {
        var machine = pair()
        let out = hear(&machine, [MemberClaim(.dead, Self.member(1), by: Self.id(2)).message])
        #expect(machine.me.incarnation == 101)
        #expect(out.contains { if case .send(Self.address(2), _) = $0 { true } else { false } })
    }

    @Test func anOlderIncarnationChangesNothing() {
        var machine = pair()
        var moved = Self.member(2, incarnation: 99)
        moved.address = Self.address(9)
        hear(&machine, [MemberClaim(.alive, moved, by: Self.id(2)).message])
        #expect(machine.members[Self.id(2)]?.address == Self.address(2))
        moved.incarnation = 101
        hear(&machine, [MemberClaim(.alive, moved, by: Self.id(2)).message])
        #expect(machine.members[Self.id(2)]?.address == Self.address(9))
    }

    @Test func confirmationsShortenASuspicion() {
        var suspicion = Suspicion(start: 0, shortest: 4_000, longest: 24_000, enough: 2, accusers: [Self.id(1)])
        #expect(suspicion.deadline == 24_000)
        suspicion.accusers.insert(Self.id(2))
        #expect((9_000...13_000).contains(suspicion.deadline))
        suspicion.accusers.insert(Self.id(3))
        #expect(suspicion.deadline == 4_000)
    }

    @Test func anotherProtocolVersionIsCountedAndDropped() {
        var machine = pair()
        var bytes = machine.announcement()
        bytes[0] = GossipMachine.wireVersion + 1
        let out = machine.receive(bytes, from: Self.address(3), now: 2)
        #expect(out.isEmpty)
        #expect(machine.counters.otherVersion == 1)
    }

    @Test func anUnspecifiedAddressIsWhereTheNodeSendsFrom() {
        var machine = GossipMachine(me: Self.member(1), seed: 1, now: 0)
        var other = Self.member(2)
        other.address = NodeAddress("0.0.0.0:7946")!
        hear(&machine, [MemberClaim(.alive, other, by: other.id).message])
        #expect(machine.members[other.id]?.address == Self.address(2))
    }

    /// Bytes cut, flipped or made up: no trap, whatever they are.
    @Test(arguments: 1...8) func hostileBytesDoNoHarm(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var source = GossipMachine(me: Self.member(2), seed: seed, now: 0)
        source.publishFlist(flist, chunkCount: 100)
        source.setHave(flist, [1, 3, 5])
        source.setFact(FactKey(kind: 1)!, [1])
        source.claim(flist, 9, now: 0)
        var samples: [[UInt8]] = [source.announcement()]
        for directive in source.join([Self.address(1)], now: 0) { if case .send(_, let bytes) = directive { samples.append(bytes) } }
        var peer = pair()
        let request = Array(samples[1].dropFirst(samples[1].count - 100))
        samples.append(peer.receiveStateRequest(request, now: 1).reply)
        for bytes in samples.prefix(2) {
            for directive in peer.receive(bytes, from: Self.address(2), now: 1) + source.tick(now: 1_000_000_000) {
                if case .send(_, let bytes) = directive { samples.append(bytes) }
            }
        }
        var machine = pair()
        for round in 0..<400 {
            var bytes = samples[Int.random(in: 0..<samples.count, using: &random)]
            if bytes.isEmpty { continue }
            switch round % 4 {
            case 0: bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random)))
            case 1: bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            case 2:
                for _ in 0..<4 { bytes[Int.random(in: min(35, bytes.count - 1)..<bytes.count, using: &random)] = .max }
            default: bytes = bytes.prefix(44) + (0..<60).map { _ in UInt8.random(in: 0...16, using: &random) }
            }
            _ = machine.receive(bytes, from: Self.address(2), now: UInt64(round) * 50_000_000)
            _ = machine.receiveStateRequest(Array(bytes.dropFirst(44)), now: UInt64(round) * 50_000_000)
            _ = machine.receiveStateReply(Array(bytes.dropFirst(56)), from: Self.address(2), now: UInt64(round) * 50_000_000)
            _ = machine.tick(now: UInt64(round) * 50_000_000)
        }
        #expect(machine.counters.malformed > 0)
    }

    @Test func limitsOfWhatANodePublishes() throws {
        var machine = pair()
        for i in 0..<GossipLimits.factsPerNode { machine.setFact(FactKey(kind: 1, id: [UInt8(i & 255), UInt8(i >> 8)])!, []) }
        #expect(machine.facts(of: Self.id(1)).count == GossipLimits.factsPerNode)
        let results = [
            machine.setFact(FactKey(kind: 2)!, []), machine.setFact(FactKey(kind: 1, id: [0, 0])!, [1]),
            machine.setFact(FactKey(kind: 1, id: [0, 0])!, [UInt8](repeating: 0, count: 257)),
        ]
        #expect(results == [false, true, false])
        #expect(FactKey(kind: 1, id: [UInt8](repeating: 0, count: 33)) == nil)
        let published = [GossipLimits.chunksPerNode + 1, -1, 0].map { machine.publishFlist(flist, chunkCount: $0) }
        #expect(published == [false, false, true])
    }

    @Test func bitmapsBeyondTheBudgetAreRefusedAndCounted() throws {
        var machine = GossipMachine(me: Self.member(1), seed: 1, now: 0)
        // 33 nodes of 2 MiB each are one too many for 64 MiB.
        for i in UInt8(2)...34 {
            var writer = WireWriter()
            writer.publish(slot: 1, flist, count: GossipLimits.chunksPerNode)
            var delta = WireWriter()
            delta.byte(MessageCode.delta.rawValue)
            GossipMachine.encode(
                [ChangeSegment(from: 0, to: 1, changes: writer.bytes)], of: Self.id(i), epoch: 100, to: &delta)
            hear(&machine, [MemberClaim(.alive, Self.member(i), by: Self.id(i)).message, delta.bytes], from: i)
        }
        #expect(machine.publishers(of: flist).count == 32)
        #expect(machine.counters.contentsRefused == 1)
    }

    /// Eight bytes that set a chunk and clear it again build 2 MiB of bitmap: a message full of them would take minutes.
    @Test func changesThatCostMuchMoreThanTheyAreLongAreMalformed() throws {
        var machine = pair()
        var writer = WireWriter()
        writer.publish(slot: 1, flist, count: GossipLimits.chunksPerNode)
        for _ in 0..<400_000 {
            for code in [ChangeCode.setRuns, ChangeCode.clearRuns] {
                writer.byte(code)
                for number in [1, 1, 0, 1] { writer.number(number) }
            }
        }
        var reply = WireWriter()
        reply.byte(StateKind.reply.rawValue)
        reply.byte(0)
        reply.node(Self.id(2))
        reply.byte(0)
        reply.number(1)
        Self.member(2).encode(to: &reply)
        reply.byte(2)
        reply.number(100)
        reply.number(7)
        reply.string(writer.bytes)
        reply.number(0)
        let start = ContinuousClock.now
        _ = machine.receiveStateReply(reply.bytes, from: Self.address(2), now: 2)
        #expect(machine.counters.malformed == 1)
        #expect(ContinuousClock.now - start < .seconds(5))
    }

    @Test func aStaleClaimIsForgottenUntilAnnouncedAnew() throws {
        var source = GossipMachine(me: Self.member(2), seed: 2, now: 0)
        var machine = pair()
        func pass(_ now: UInt64) {
            for directive in source.tick(now: now) {
                if case .send(_, let bytes) = directive { _ = machine.receive(bytes, from: Self.address(2), now: now) }
            }
        }
        _ = source.receive(machine.announcement(), from: Self.address(1), now: 1)
        source.publishFlist(flist, chunkCount: 10)
        source.setHave(flist, [4])
        pass(1_000_000_000)
        #expect(machine.holders(of: flist, 4) == [Self.id(2)])
        #expect(machine.copies(of: flist)?[4] == 1)
        machine.dropClaimedHave(Self.id(2), flist, 4)
        #expect(machine.holders(of: flist, 4).isEmpty)
        #expect(machine.copies(of: flist)?[4] == 0)
        source.setHave(flist, [5])
        pass(2_000_000_000)
        #expect(machine.holders(of: flist, 4).isEmpty)
        #expect(machine.holders(of: flist, 5) == [Self.id(2)])
        source.clearHave(flist, [4])
        source.setHave(flist, [4])
        pass(3_000_000_000)
        #expect(machine.holders(of: flist, 4) == [Self.id(2)])
    }
}

@Suite struct GossipAddressTests {
    typealias Base = GossipMachineTests

    @Test func aNodeWhoseAddressHasChangedIsToldTheNewOneAndTellsAll() throws {
        var moved = GossipMachine(me: Base.member(1), seed: 1, now: 0)
        var other = GossipMachine(me: Base.member(2), seed: 2, now: 0)
        _ = moved.receive(other.announcement(), from: Base.address(2), now: 1)
        _ = other.receive(moved.announcement(), from: Base.address(1), now: 1)
        var now: UInt64 = 2
        var toOther = moved.addressLost(now: now)
        // Datagrams to and fro; the other one sees the new address.
        for _ in 0..<40 {
            now += 100_000_000
            var back: [GossipDirective] = []
            for case .send(_, let bytes) in toOther { back += other.receive(bytes, from: Base.address(9), now: now) }
            back += other.tick(now: now)
            toOther = []
            for case .send(let to, let bytes) in back where to == Base.address(9) || moved.me.address == to {
                toOther += moved.receive(bytes, from: Base.address(2), now: now)
            }
            toOther += moved.tick(now: now)
        }
        #expect(moved.me.address == Base.address(9))
        #expect(moved.me.incarnation > 100)
        #expect(other.members[Base.id(1)]?.address == Base.address(9))
    }

    @Test func withoutALossNobodyMovesANode() {
        var machine = GossipMachine(me: Base.member(1), seed: 1, now: 0)
        machine.hearOwnAddress(Base.address(9))
        #expect(machine.me.address == Base.address(1))
        #expect(machine.stillLost(now: 1).isEmpty)
    }
}
