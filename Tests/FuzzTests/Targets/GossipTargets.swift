import ChunkModel
@testable import Gossip
import MeshKeys

extension FuzzTarget {
    private static func node(_ number: UInt8) -> NodeID { NodeID(Blake2b.hash256([number])) }
    private static func address(_ number: UInt8) -> NodeAddress { NodeAddress(ip: [10, 0, 0, number], port: 7_946)! }
    private static func member(_ number: UInt8) -> Member {
        Member(id: node(number), name: "n\(number)", site: "s", address: address(number), incarnation: 1_000)
    }
    private static let digest = FlistDigest(Blake2b.hash256([200]))

    /// One datagram whose seal opened, exactly as it stands, for a machine that knows two members.
    static let gossipDatagrams = FuzzTarget(
        name: "gossip-datagram", maxLength: GossipLimits.datagramBytes, seeds: { datagrams() },
        run: { bytes in
            var machine = acquainted()
            check(machine.receive(bytes, from: address(1), now: 2 &* .second))
            check(machine.tick(now: machine.nextDeadline))
            check(machine)
        })

    /// A history: datagrams with good heads, state messages, own changes and the passing of time, one after the other.
    static let gossipMachine = FuzzTarget(
        name: "gossip-machine", maxLength: 16 << 10, maxSeconds: 10, seeds: { histories() },
        run: { bytes in
            var input = FuzzInput(bytes)
            var machine = acquainted()
            var now: UInt64 = 2 &* .second
            while !input.isAtEnd {
                let operation = input.byte()
                let from = operation >> 4 & 3
                switch operation & 15 {
                case 0...6:
                    var head = WireWriter()
                    head.byte(GossipMachine.wireVersion)
                    head.node(node(from))
                    head.number(UInt64(1_000))
                    head.number(UInt64(input.byte()))
                    head.raw(GossipMachine.siteTag(operation & 15 == 6 ? "other" : "s"))
                    check(machine.receive(head.bytes + input.piece(), from: address(from), now: now))
                case 7: check(machine.receive(input.piece(), from: address(from), now: now))
                case 8:
                    let (reply, directives) = machine.receiveStateRequest(input.piece(), from: address(from), now: now)
                    fuzzCheck(reply.count <= GossipLimits.streamStateBytes, "a reply over the limit")
                    check(directives)
                case 9: check(machine.receiveStateReply(input.piece(), from: address(from), now: now))
                case 10: check(machine.stateExchangeFailed(at: address(from), now: now))
                case 11: check(machine.noteUnreachable(node(from), now: now))
                case 12:
                    let index = Int(input.byte())
                    if index & 1 == 0 { machine.setHave(digest, [index]) } else { machine.clearHave(digest, [index - 1]) }
                    _ = machine.claim(digest, index, now: now)
                    machine.dropClaimedHave(node(from), digest, index)
                    _ = machine.holders(of: digest, index)
                    _ = machine.copies(of: digest)
                default:
                    now &+= UInt64(input.number(2)) &* 20_000_000
                    check(machine.tick(now: now))
                }
            }
            check(machine.leave(now: now))
            check(machine)
        })

    private static func acquainted() -> GossipMachine {
        var machine = GossipMachine(me: member(0), seed: 1, now: 0)
        for number in [1, 2] as [UInt8] {
            let other = GossipMachine(me: member(number), seed: 2, now: 0)
            _ = machine.receive(other.announcement(), from: address(number), now: .second)
        }
        _ = machine.publishFlist(digest, chunkCount: 300)
        return machine
    }

    private static func check(_ directives: [GossipDirective]) {
        for case .send(_, let bytes) in directives {
            fuzzCheck(bytes.count <= GossipLimits.datagramBytes, "a datagram of \(bytes.count) bytes")
        }
    }

    private static func check(_ machine: GossipMachine) {
        fuzzCheck(machine.members[machine.me.id] == nil, "this node is its own member")
        fuzzCheck(machine.members.count <= GossipLimits.members, "too many members")
        fuzzCheck((0...GossipLimits.bitmapBytes).contains(machine.contents.reservedBytes), "bitmaps over the limit")
    }

    // MARK: Seeds

    /// What two machines say to each other while they meet, publish and exchange their state.
    private static func datagrams() -> [[UInt8]] { talk().map(\.bytes) }

    private static func talk() -> [(from: UInt8, bytes: [UInt8])] {
        var machines = [GossipMachine(me: member(1), seed: 3, now: 0), GossipMachine(me: member(2), seed: 4, now: 0)]
        var out: [(from: UInt8, bytes: [UInt8])] = []
        var waiting = machines[0].join([address(2)], now: 0).map { (0, $0) }
        var now: UInt64 = 0
        for round in 0..<40 {
            if round == 4 {
                _ = machines[0].publishFlist(digest, chunkCount: 300)
                machines[0].setHave(digest, [1, 2, 3, 77])
                _ = machines[0].claim(digest, 9, now: now)
                if let key = FactKey(kind: 3, id: [1]) { _ = machines[0].setFact(key, [9, 9]) }
            }
            if round == 20 { waiting += machines[1].leave(now: now).map { (1, $0) } }
            for (sender, directive) in waiting {
                switch directive {
                case .send(_, let bytes):
                    out.append((UInt8(sender + 1), bytes))
                    waiting += machines[1 - sender].receive(bytes, from: address(UInt8(sender + 1)), now: now).map { (1 - sender, $0) }
                case .exchangeState, .event: break
                }
            }
            now &+= 250 &* .millisecond
            waiting = (0...1).flatMap { place in machines[place].tick(now: now).map { (place, $0) } }
        }
        return Array(out.prefix(60))
    }

    private static func histories() -> [[UInt8]] {
        let talk = talk()
        return stride(from: 0, to: talk.count, by: 12).map { start in
            var history = FuzzOutput()
            for (from, bytes) in talk[start..<min(start + 12, talk.count)] {
                history.byte(7 | from << 4)
                history.piece(bytes)
                history.byte(15)
                history.number(30, 2)
            }
            return history.bytes
        } + [request()]
    }

    private static func request() -> [UInt8] {
        var other = GossipMachine(me: member(3), seed: 5, now: 0)
        _ = other.publishFlist(digest, chunkCount: 300)
        var history = FuzzOutput()
        var message = WireWriter()
        message.byte(StateKind.request.rawValue)
        message.byte(0)
        message.number(0)
        other.me.encode(to: &message)
        message.number(0)
        history.byte(8 | 3 << 4)
        history.piece(message.bytes)
        return history.bytes
    }
}
