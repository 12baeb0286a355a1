import ChunkModel
import MeshKeys
import PeerProtocol
import Testing

@Suite struct FrameTests {
    static let chunk = ChunkID([UInt8](repeating: 7, count: 32))!
    static let legacy = ChunkID([UInt8](repeating: 9, count: 16))!
    static let flist = FlistDigest(Blake2b.hash256([1]))
    static let samples: [PeerFrame] = [
        .proof([UInt8](repeating: 3, count: 64)),
        .request(id: 1, .chunk(chunk, .ifHeld, flist: nil), priority: .foreground, deadline: 1000),
        .request(id: 2, .chunk(legacy, .fetch, flist: flist), priority: .prefetch, deadline: .max),
        .request(id: 3, .flistPiece(flist, offset: 1 << 40, length: 512 * 1024), priority: .readAhead, deadline: 5),
        .request(id: 4, .message(kind: 9, total: 3, first: [1, 2, 3]), priority: .foreground, deadline: 5),
        .cancel(id: 4), .pending(id: 5), .busy(id: 6, retryAfterMilliseconds: 70), .missing(id: 7), .refused(id: 8, .tooLarge),
        .data(id: 9, length: UInt32(ChunkLimits.maxStoredBytes)), .message(id: 10, total: 2, first: [4, 5]), .part(id: 11, [1]),
    ]

    @Test(arguments: samples) func aFrameSurvivesTheWire(frame: PeerFrame) throws {
        #expect(try PeerFrame(decoding: frame.encoded) == frame)
    }

    @Test(arguments: samples) func aTruncatedFrameIsAViolation(frame: PeerFrame) {
        let bytes = frame.encoded
        // Parts and messages may be of any length down to their head.
        let head = 5 + 4
        for count in 0..<min(bytes.count, head) where !(bytes[0] == 10 && count >= 5) {
            #expect(throws: ProtocolViolation.self) { try PeerFrame(decoding: Array(bytes.prefix(count))) }
        }
    }

    @Test func limitsAreHeldWhileDecoding() {
        let bad: [PeerFrame] = [
            .data(id: 1, length: UInt32(ChunkLimits.maxStoredBytes + 1)),
            .message(id: 1, total: UInt32(ProtocolLimits.maxMessageBytes + 1), first: []),
            .message(id: 1, total: 1, first: [1, 2]),
            .request(id: 1, .flistPiece(Self.flist, offset: 0, length: 0), priority: .foreground, deadline: 1),
            .request(id: 1, .flistPiece(Self.flist, offset: .max, length: 1), priority: .foreground, deadline: 1),
            .request(id: 1, .flistPiece(Self.flist, offset: 0, length: 512 * 1024 + 1), priority: .foreground, deadline: 1),
        ]
        for frame in bad {
            #expect(throws: ProtocolViolation.self) { try PeerFrame(decoding: frame.encoded) }
        }
    }

    @Test func framesArriveByteByByteAndInOneLump() throws {
        var (client, server) = try Pair.make()
        let stream = Self.samples.flatMap { client.sending.seal($0) }
        var reader = FrameReader()
        var found: [PeerFrame] = []
        for byte in stream {
            reader.append([byte])
            while let frame = try server.receiving.open(&reader) { found.append(frame) }
        }
        #expect(found == Self.samples)

        let again = Self.samples.flatMap { client.sending.seal($0) }
        reader.append(again)
        reader.append([1, 2, 3])
        for sample in Self.samples {
            let frame = try server.receiving.open(&reader)
            #expect(frame == sample)
        }
        let rest = reader.take(upTo: 10)
        #expect(rest == [1, 2, 3])
        #expect(reader.buffered == 0)
    }

    @Test func aRepeatedReorderedOrChangedFrameDoesNotOpen() throws {
        var (client, server) = try Pair.make()
        let first = client.sending.seal(.pending(id: 1))
        let second = client.sending.seal(.pending(id: 2))
        var reader = FrameReader()
        reader.append(second)
        #expect(throws: ProtocolViolation.self) { try server.receiving.open(&reader) }
        var (_, other) = try Pair.make()
        reader = FrameReader()
        reader.append(first)
        #expect(throws: ProtocolViolation.self) { try other.receiving.open(&reader) }
    }
}

/// Two ends of a session.
enum Pair {
    static func make() throws -> (client: SessionKeys, server: SessionKeys) {
        let ring = try #require(MeshKeyRing(keys: [MeshKeyRing.randomKey()]))
        var client = ClientHandshake(
            identity: .random(), ring: ring, expected: nil, ephemeralSecret: Sodium.randomBytes(32))
        var server = ServerHandshake(identity: .random(), ring: ring, ephemeralSecret: Sodium.randomBytes(32))
        guard case .reply(let reply, let serverKeys) = server.receive(client.hello) else { throw HandshakeError.notOpened }
        let ours = try client.receive(reply)
        var theirs = serverKeys
        var reader = FrameReader()
        reader.append(ours.proof)
        let proof = try #require(try theirs.receiving.open(&reader))
        _ = try server.receive(first: proof)
        return (ours.session, theirs)
    }
}
