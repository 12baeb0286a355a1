import ChunkModel
import PeerProtocol
import Testing

/// xorshift64*, so that a seed names a run.
struct Seeded: RandomNumberGenerator {
    var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }
    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_F491_4F6C_DD1D
    }
}

@Suite struct FuzzTests {
    private func anyFrame(_ random: inout Seeded) -> PeerFrame? {
        if Bool.random(using: &random) {
            return try? PeerFrame(
                decoding: (0..<Int.random(in: 0...80, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })
        }
        var bytes = FrameTests.samples.randomElement(using: &random)!.encoded
        for _ in 0..<Int.random(in: 0...3, using: &random) {
            bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...20, using: &random)
        }
        if bytes.count > 4, Bool.random(using: &random) { (bytes[1], bytes[2], bytes[3]) = (0, 0, 0) }
        return try? PeerFrame(decoding: bytes)
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>) func noFramesTrapAMachineAndNoRequestEndsTwice(seed: UInt64) {
        var random = Seeded(seed)
        var client = ClientConnectionMachine(now: 0)
        var server = ServerConnectionMachine(now: 0)
        var (now, token): (UInt64, UInt64) = (0, 0)
        var open: Set<UInt64> = []
        func settle(_ directives: [ClientConnectionMachine.Directive]) {
            for directive in directives {
                switch directive {
                case .finish(let token, _), .deliverData(let token): #expect(open.remove(token) != nil, "seed \(seed)")
                case .pending(let token): #expect(open.contains(token), "seed \(seed)")
                case .beginData, .drop: break
                }
            }
        }
        client.opened(now: 0)
        for _ in 0..<600 {
            now += UInt64.random(in: 0...200_000_000, using: &random)
            token += 1
            open.insert(token)
            let kind: PeerRequest.Kind =
                Bool.random(using: &random)
                ? .message(kind: 1, payload: [UInt8](repeating: 0, count: Int.random(in: 0...3, using: &random)))
                : .chunk(FrameTests.chunk, .ifHeld, flist: nil)
            settle(client.submit(token: token, PeerRequest(kind), deadline: now + 900_000_000, now: now))
            _ = client.nextFrames(now: now)
            if let frame = anyFrame(&random) {
                settle(client.receive(frame, now: now))
                _ = server.receive(frame, now: now)
                _ = server.answer(id: UInt32.random(in: 0...9, using: &random), .data(length: 5), now: now)
            }
            if Bool.random(using: &random) { settle(client.dataFinished(now: now)) }
            settle(client.tick(now: now))
            _ = server.tick(now: now)
            _ = server.nextOutput(now: now)
            if Int.random(in: 0..<9, using: &random) == 0 { settle(client.cancel(token: UInt64.random(in: 0...token, using: &random))) }
        }
        settle(client.close(.closed))
        _ = server.close()
        #expect(open.isEmpty, "seed \(seed)")
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>) func aDamagedStreamEndsInAViolation(seed: UInt64) throws {
        var random = Seeded(seed)
        var (client, server) = try Pair.make()
        var stream = FrameTests.samples.flatMap { client.sending.seal($0) }
        let at = Int.random(in: 0..<stream.count, using: &random)
        stream[at] ^= UInt8.random(in: 1...255, using: &random)
        var reader = FrameReader()
        var intact = 0
        var machine = ServerConnectionMachine(now: 0)
        do {
            for piece in stride(from: 0, to: stream.count, by: 17) {
                reader.append(stream[piece..<min(piece + 17, stream.count)])
                while let frame = try server.receiving.open(&reader) {
                    intact += 1
                    _ = machine.receive(frame, now: 0)
                }
            }
            // A length that became too long waits for bytes that never come.
            #expect(reader.buffered > 0, "seed \(seed)")
        } catch {
            #expect(!error.description.isEmpty)
        }
        #expect(intact < FrameTests.samples.count, "seed \(seed)")
    }
}
