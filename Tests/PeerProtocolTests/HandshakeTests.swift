import ChunkModel
import MeshKeys
import PeerProtocol
import Testing

@Suite struct HandshakeTests {
    let ring = MeshKeyRing(keys: [MeshKeyRing.randomKey()])!
    let alice = NodeIdentity.random()
    let bob = NodeIdentity.random()

    func client(_ ring: MeshKeyRing? = nil, expecting: NodeID? = nil, version: UInt16 = ProtocolLimits.version) -> ClientHandshake {
        ClientHandshake(
            identity: alice, ring: ring ?? self.ring, expected: expecting, ephemeralSecret: Sodium.randomBytes(32), version: version)
    }
    func server() -> ServerHandshake { ServerHandshake(identity: bob, ring: ring, ephemeralSecret: Sodium.randomBytes(32)) }

    @Test func bothEndsLearnWhoTheOtherIs() throws {
        var (client, server) = (client(expecting: bob.id), server())
        guard case .reply(let reply, var theirs) = server.receive(client.hello) else { return #expect(Bool(false), "no reply") }
        #expect(client.hello.count == Handshake.helloBytes && reply.count == Handshake.replyBytes)
        var (ours, proof) = try client.receive(reply)
        #expect(ours.peer == bob.id)
        var reader = FrameReader()
        reader.append(proof)
        let frame = try #require(try theirs.receiving.open(&reader))
        let found = try server.receive(first: frame)
        #expect(found == alice.id)
        reader.append(theirs.sending.seal(.missing(id: 1)))
        let answer = try ours.receiving.open(&reader)
        #expect(answer == .missing(id: 1))
    }

    @Test func anotherMeshKeyMeetsSilence() {
        var server = server()
        guard case .silence = server.receive(client(MeshKeyRing(keys: [MeshKeyRing.randomKey()])).hello) else {
            return #expect(Bool(false), "it answered")
        }
        guard case .silence = server.receive(client().hello) else { return #expect(Bool(false), "it gave a second chance") }
    }

    @Test func anotherNodeThanExpectedIsRefused() {
        var (client, server) = (client(expecting: NodeIdentity.random().id), server())
        guard case .reply(let reply, _) = server.receive(client.hello) else { return #expect(Bool(false), "no reply") }
        #expect(throws: HandshakeError.self) { try client.receive(reply) }
    }

    @Test func anotherVersionIsNamedOnBothSides() {
        var (client, server) = (client(version: 99), server())
        guard case .otherVersion(let reply, let theirs) = server.receive(client.hello) else { return #expect(Bool(false), "no mismatch") }
        #expect(theirs == 99 && reply.count == Handshake.replyBytes)
        // This client's own version is the common one, so all it can see is a server that proves nothing.
        #expect(throws: HandshakeError.self) { try client.receive(reply) }
    }

    @Test func aRecordedHelloGivesItsPlayerNoSession() throws {
        let recorded = client().hello
        var server = server()
        guard case .reply(let reply, _) = server.receive(recorded) else { return #expect(Bool(false), "no reply") }
        // Whoever plays it has neither the ephemeral secret nor the identity: a handshake of its own cannot use the reply.
        var other = ClientHandshake(
            identity: NodeIdentity.random(), ring: ring, expected: nil, ephemeralSecret: Sodium.randomBytes(32))
        #expect(throws: HandshakeError.badSignature) { try other.receive(reply) }
        #expect(throws: HandshakeError.self) { try server.receive(first: .proof([UInt8](repeating: 0, count: 64))) }
        #expect(throws: HandshakeError.outOfOrder) { try server.receive(first: .proof([UInt8](repeating: 0, count: 64))) }
    }

    @Test func everyFlippedBitIsNoticed() {
        let hello = client().hello
        for i in hello.indices {
            var changed = hello
            changed[i] ^= 1 << UInt8(i & 7)
            var server = server()
            if case .silence = server.receive(changed) { continue }
            #expect(Bool(false), "byte \(i)")
        }
        var dialling = client()
        var server = server()
        guard case .reply(var reply, _) = server.receive(dialling.hello) else { return #expect(Bool(false), "no reply") }
        reply[100] ^= 1
        #expect(throws: HandshakeError.notOpened) { try dialling.receive(reply) }
    }
}
