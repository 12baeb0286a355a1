import ChunkModel
@testable import Gossip
import MeshKeys

extension FuzzTarget {
    private static func node(_ number: UInt8) -> NodeID { NodeID(Blake2b.hash256([number])) }
    private static func address(_ number: UInt8) -> NodeAddress { NodeAddress(ip: [10, 0, 0, number], port: 7_946)! }
    private static func machine(_ number: UInt8, site: String) -> GossipMachine {
        let me = Member(id: node(number), name: "n\(number)", site: site, address: address(number), incarnation: 1_000)
        return GossipMachine(me: me, seed: UInt64(number), now: 0)
    }
    private static let digest = FlistDigest(Blake2b.hash256([200]))

    /// What another site says, in datagrams and by stream, to a gateway that wants to know what it holds: a history.
    static let gossipSites = FuzzTarget(
        name: "gossip-sites", maxLength: 16 << 10, maxSeconds: 10, seeds: { histories() },
        run: { bytes in
            var input = FuzzInput(bytes)
            var (machine, _) = acquainted()
            let members = machine.members.keys.sorted()
            var now: UInt64 = 3 &* .second
            while !input.isAtEnd {
                let operation = input.byte()
                let from = operation >> 4 & 7
                switch operation & 7 {
                case 0, 1:
                    var head = WireWriter()
                    head.byte(GossipMachine.wireVersion)
                    head.node(node(from))
                    head.number(UInt64(1_000))
                    head.number(UInt64(0))
                    head.raw(GossipMachine.siteTag(operation & 8 == 0 ? "b" : "a"))
                    head.byte(MessageCode.site.rawValue)
                    _ = machine.receive(head.bytes + input.piece(), from: address(from), now: now)
                case 2: _ = machine.receive(input.piece(), from: address(from), now: now)
                case 3:
                    let (reply, _) = machine.receiveStateRequest([StateKind.siteAsk.rawValue] + input.piece(), now: now)
                    fuzzCheck(reply.count <= GossipLimits.streamStateBytes, "an answer of \(reply.count) bytes")
                case 4, 5:
                    _ = machine.receiveStateReply([StateKind.siteTell.rawValue] + input.piece(), from: address(from), now: now)
                case 6: _ = machine.seek([digest], at: .any, now: now)
                default:
                    now &+= UInt64(input.number(2)) &* 20_000_000
                    for case .send(_, let bytes) in machine.tick(now: now) {
                        fuzzCheck(bytes.count <= GossipLimits.datagramBytes, "a datagram of \(bytes.count) bytes")
                    }
                }
                _ = machine.siteHolders(of: digest, Int(operation), at: .any)
                machine.dropClaimedHave(node(from), digest, Int(operation))
            }
            fuzzCheck(machine.members.keys.sorted() == members, "a node of another site became a member")
            fuzzCheck(machine.book.sites.count <= GossipLimits.sites, "too many sites")
            fuzzCheck(machine.book.holdings.count <= GossipLimits.siteHoldings, "too many bitmaps")
            fuzzCheck(machine.book.bitmapBytes <= GossipLimits.siteBitmapBytes, "bitmaps over the limit")
            fuzzCheck(machine.otherSites.allSatisfy { $0.name != "a" && $0.gateways.count <= GossipLimits.gatewaysTold }, "a wrong site")
        })

    /// A lone gateway of site "a" that was heard by one of "b", and what it was told to get there.
    private static func acquainted() -> (GossipMachine, said: [[UInt8]]) {
        var (a, b) = (machine(0, site: "a"), machine(1, site: "b"))
        _ = b.publishFlist(digest, chunkCount: 300)
        b.setHave(digest, [1, 2, 3, 77])
        var said: [[UInt8]] = []
        var waiting = a.join([address(1)], now: .second).map { (0, $0) }
        var now: UInt64 = .second
        for _ in 0..<30 {
            var next: [(Int, GossipDirective)] = []
            for case (let sender, .send(_, let bytes)) in waiting {
                if sender == 0 {
                    next += b.receive(bytes, from: address(0), now: now).map { (1, $0) }
                } else {
                    said.append(bytes)
                    next += a.receive(bytes, from: address(1), now: now).map { (0, $0) }
                }
            }
            now &+= 50 &* .millisecond
            waiting = next + a.tick(now: now).map { (0, $0) } + b.tick(now: now).map { (1, $0) }
        }
        for case .exchangeState(_, _, let question) in a.seek([digest], at: .any, now: now) {
            said.append(b.receiveStateRequest(question, now: now).reply)
        }
        return (a, said)
    }

    private static func histories() -> [[UInt8]] {
        acquainted().said.map { bytes in
            var history = FuzzOutput()
            history.byte(6)
            if bytes.first == StateKind.siteTell.rawValue {
                history.byte(4 | 1 << 4)
                history.piece(Array(bytes.dropFirst()))
            } else {
                history.byte(2 | 1 << 4)
                history.piece(bytes)
            }
            history.byte(7)
            history.number(40, 2)
            return history.bytes
        }
    }
}
