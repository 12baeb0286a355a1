@testable import GossipTransport
import MeshKeys

extension FuzzTarget {
    /// Datagrams as they come from the socket, and ones that open: kinds, sessions, counters, challenges.
    static let gossipSeal = FuzzTarget(
        name: "gossip-seal", maxLength: 4_096,
        seeds: {
            var output = FuzzOutput()
            for counter in [1, 2, 1, 5_000, 3_990, 1 << 63] as [UInt64] {
                output.byte(1)
                output.byte(0)
                output.number(7, 1)
                output.number(counter, 8)
                output.piece([1, 2, 3])
            }
            return [output.bytes, [0, 60, 0] + [UInt8](repeating: 9, count: 60)]
        },
        run: { bytes in
            let ring = MeshKeyRing(keys: [[UInt8](repeating: 5, count: MeshKeyRing.keyBytes)])!
            var seal = DatagramSeal(ring: ring)
            var limit = ForeignLimit()
            var input = FuzzInput(bytes)
            var now: UInt64 = 0
            while !input.isAtEnd {
                let operation = input.byte()
                now &+= UInt64(operation >> 4) &* 400_000_000
                let source = NodeAddress(ip: [10, 0, 0, operation], port: 1)!
                _ = limit.verdict(on: source, now: now)
                switch operation & 3 {
                case 0:
                    fuzzCheck(seal.open(input.piece(), from: source, now: now) == .foreign, "bytes without a seal were opened")
                    limit.noteFailed(source)
                default:
                    let kind = input.byte() % 4
                    let plain = [kind] + UInt64(input.byte()).littleEndianBytes + input.number(8).littleEndianBytes + input.piece()
                    let sealed = ring.seal(plain, context: DatagramSeal.context)
                    if case .accept(_, let key) = seal.open(sealed, from: source, now: now) {
                        limit.noteAccepted(source, key: key, now: now)
                        if case .accept(let again, _) = seal.open(sealed, from: source, now: now), kind == 0 {
                            fuzzCheck(again.isEmpty, "a datagram was opened twice")
                        }
                    }
                }
            }
        })
}
