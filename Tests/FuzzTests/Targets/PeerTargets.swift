import ChunkModel
import MeshKeys
@testable import PeerProtocol

extension FuzzTarget {
    private static let chunk = ChunkID([UInt8](repeating: 7, count: 32))!
    private static let digest = FlistDigest(Blake2b.hash256([1]))
    private static let frames: [PeerFrame] = [
        .request(id: 1, .chunk(chunk, .ifHeld, flist: nil), priority: .foreground, deadline: 1000),
        .request(id: 2, .chunk(ChunkID([UInt8](repeating: 9, count: 16))!, .fetch, flist: digest), priority: .prefetch, deadline: .max),
        .request(id: 3, .flistPiece(digest, offset: 1 << 40, length: 512 * 1024), priority: .readAhead, deadline: 5),
        .request(id: 4, .message(kind: 9, total: 4, first: [1, 2, 3]), priority: .foreground, deadline: 5), .part(id: 4, [1]),
        .cancel(id: 4), .pending(id: 1), .busy(id: 2, retryAfterMilliseconds: 70), .missing(id: 3), .refused(id: 4, .tooLarge),
        .data(id: 1, length: 9), .message(id: 2, total: 3, first: [4, 5]), .part(id: 2, [1]), .proof([UInt8](repeating: 3, count: 64)),
    ]

    /// The plain bytes of one frame.
    static let peerFrame = FuzzTarget(
        name: "peer-frame", maxLength: 2_048, seeds: { frames.map(\.encoded) },
        run: { bytes in
            guard let frame = try? PeerFrame(decoding: bytes) else { return }
            fuzzCheck((try? PeerFrame(decoding: frame.encoded)) == frame, "a frame reads differently when it is written again")
        })

    /// A stream of one direction, sealed frames and raw bytes in pieces of any length, read as a server reads it.
    static let peerStream = FuzzTarget(
        name: "peer-stream", maxLength: 8 << 10,
        seeds: {
            var output = FuzzOutput()
            for frame in frames {
                output.byte(0)
                output.piece(frame.encoded)
            }
            return [output.bytes, [1, 4, 0, 0, 20, 1, 2]]
        },
        run: { bytes in
            let key = Blake2b.hash256([9])
            var cipher = SessionCipher(key: key)
            var reader = FrameReader()
            var machine = ServerConnectionMachine(now: 0)
            var input = FuzzInput(bytes)
            var counter: UInt64 = 0
            do throws(ProtocolViolation) {
                while !input.isAtEnd {
                    let operation = input.byte()
                    let piece = input.piece()
                    switch operation & 3 {
                    case 0, 1:
                        let length = piece.prefix(65_000).count + SessionCrypto.tagBytes
                        let header = [UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length)]
                        let sealed = SessionCrypto.seal(Array(piece.prefix(65_000)), header: header, counter: counter, key: key.bytes)
                        counter &+= 1
                        // In two reads, wherever the input says.
                        let cut = Int(operation >> 2) % (sealed.count + 1)
                        reader.append(header + sealed[..<cut])
                        _ = try cipher.open(&reader)
                        reader.append(sealed[cut...])
                    case 2: _ = reader.take(upTo: piece.count)
                    default: reader.append(piece)
                    }
                    while let frame = try cipher.open(&reader) { _ = machine.receive(frame, now: 0) }
                    fuzzCheck(reader.buffered <= 2 << 16, "more is kept than an incomplete frame")
                }
            } catch {
                fuzzCheck(!error.description.isEmpty, "a violation without a line")
            }
        })

    /// Both ends of the handshake, fed with messages that open and with ones that do not.
    static let peerHandshake = FuzzTarget(
        name: "peer-handshake", maxLength: 1_024,
        seeds: {
            let opening = Handshake.opening(
                version: ProtocolLimits.version, key: SessionCrypto.publicKey(of: [UInt8](repeating: 2, count: 32)),
                id: NodeID(Blake2b.hash256([1])), sealsBulk: false)
            return [0, 1, 2].map { [$0] + opening }
        },
        run: { bytes in
            guard let first = bytes.first else { return }
            let ring = MeshKeyRing(keys: [[UInt8](repeating: 5, count: MeshKeyRing.keyBytes)])!
            let identity = NodeIdentity(seed: [UInt8](repeating: 1, count: 32))!
            let rest = Array(bytes.dropFirst())
            var server = ServerHandshake(identity: identity, ring: ring, ephemeralSecret: [UInt8](repeating: 3, count: 32))
            var client = ClientHandshake(
                identity: identity, ring: ring, expected: nil, ephemeralSecret: [UInt8](repeating: 4, count: 32))
            switch first % 4 {
            case 0:
                let plain = Handshake.padded(Array(rest.prefix(Handshake.helloPlainBytes)), to: Handshake.helloPlainBytes)
                if case .reply(let reply, _) = server.receive(ring.seal(plain, context: Handshake.helloContext)) {
                    fuzzCheck(reply.count == Handshake.replyBytes, "a reply of \(reply.count) bytes")
                    fuzzCheck((try? server.receive(first: .proof(Handshake.padded(rest, to: 64)))) == nil, "a proof of nothing was taken")
                }
            case 1:
                let plain = Handshake.padded(Array(rest.prefix(Handshake.replyPlainBytes)), to: Handshake.replyPlainBytes)
                fuzzCheck(
                    (try? client.receive(ring.seal(plain, context: Handshake.replyContext))) == nil, "a signature of nothing was taken")
            case 2:
                // Sealed, but of any length.
                _ = server.receive(ring.seal(rest, context: Handshake.helloContext))
                _ = try? client.receive(ring.seal(rest, context: Handshake.replyContext))
            default:
                _ = server.receive(rest)
                _ = try? client.receive(rest)
            }
        })

    /// Frames in any order at both ends of a connection, with time, answers and cancellations between: each request ends exactly once.
    static let peerMachines = FuzzTarget(
        name: "peer-machines", maxLength: 8 << 10,
        seeds: {
            var output = FuzzOutput()
            for frame in frames {
                output.byte(0)
                output.byte(0)
                output.piece(frame.encoded)
                output.byte(2)
                output.byte(1)
            }
            return [output.bytes]
        },
        run: { bytes in
            var input = FuzzInput(bytes)
            var client = ClientConnectionMachine(now: 0)
            var server = ServerConnectionMachine(now: 0)
            var (now, token): (UInt64, UInt64) = (0, 0)
            var open: Set<UInt64> = []
            func settle(_ directives: [ClientConnectionMachine.Directive]) {
                for directive in directives {
                    switch directive {
                    case .finish(let token, _), .deliverData(let token): fuzzCheck(open.remove(token) != nil, "a request ended twice")
                    case .pending(let token): fuzzCheck(open.contains(token), "a request lives that has ended")
                    case .beginData(let length): fuzzCheck(length <= ProtocolLimits.maxDataBytes, "bulk data over the limit")
                    case .drop: break
                    }
                }
            }
            client.opened(now: 0)
            while !input.isAtEnd {
                let operation = input.byte()
                now &+= UInt64(input.byte()) &* 10_000_000
                switch operation & 7 {
                case 0, 1:
                    guard let frame = try? PeerFrame(decoding: input.piece()) else { continue }
                    settle(client.receive(frame, now: now))
                    _ = server.receive(frame, now: now)
                case 2, 3:
                    token += 1
                    open.insert(token)
                    let kind: PeerRequest.Kind =
                        operation & 8 == 0 ? .chunk(chunk, .ifHeld, flist: nil) : .message(kind: 1, payload: [operation])
                    settle(client.submit(token: token, PeerRequest(kind), deadline: now &+ 900_000_000, now: now))
                    _ = client.nextFrames(now: now)
                case 4: _ = server.answer(id: UInt32(operation >> 3), .data(length: 5), now: now)
                case 5:
                    client.dataProgress(now: now)
                    settle(client.dataFinished(now: now))
                case 6:
                    settle(client.tick(now: now))
                    _ = server.tick(now: now)
                default: settle(client.cancel(token: UInt64(operation >> 3)))
                }
                while server.nextOutput(now: now) != nil {}
            }
            fuzzCheck(server.requestCount <= ProtocolLimits.maxWaitingRequests, "too many requests are held")
            settle(client.close(.closed))
            _ = server.close()
            fuzzCheck(open.isEmpty, "a request never ended")
        })
}
