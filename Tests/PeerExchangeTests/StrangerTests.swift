import ChunkModel
import Glibc
import MeshKeys
import PeerProtocol
import Synchronization
import Testing

@testable import PeerExchange

extension ExchangeTests {
    /// Who has no key, who plays recordings, who holds the key and is no member, who asks too much. Real sockets.
    @Suite(.timeLimit(.minutes(1))) struct StrangerTests {
        /// All that a client says in a handshake.
        private func recording(from server: TestNode) throws -> (hello: [UInt8], proof: [UInt8]) {
            let socket = try RawSocket(to: server.address)
            var handshake = ClientHandshake(
                identity: .random(), ring: TestNode.meshKeys, expected: nil, ephemeralSecret: Sodium.randomBytes(32))
            socket.write(handshake.hello)
            let (_, proof) = try handshake.receive(socket.read(Handshake.replyBytes))
            socket.write(proof)
            return (handshake.hello, proof)
        }

        @Test func noAnswerIsLargerThanItsQuestion() { #expect(Handshake.replyBytes <= Handshake.helloBytes) }

        @Test func aHandshakePlayedAgainMeetsSilence() async throws {
            let server = try TestNode { $0.handshakeTimeout = 300_000_000 }
            let (hello, proof) = try recording(from: server)
            for _ in 0..<3 {
                let begin = ContinuousClock.now
                let player = try RawSocket(to: server.address)
                player.write(hello + proof)
                #expect(player.read(1).isEmpty)
                #expect(ContinuousClock.now - begin >= .milliseconds(250), "the end came as for any garbage")
            }
            #expect(server.exchange.strangers.replayed == 3)
            server.exchange.stop()
        }

        @Test func aHandshakePlayedAfterARestartOpensNothing() async throws {
            let first = try TestNode()
            let (hello, proof) = try recording(from: first)
            first.exchange.stop()
            let handled = Atomic(0)
            let server = try TestNode(
                handler: TestHandler { _, responder in
                    handled.add(1, ordering: .relaxed)
                    responder.missing()
                }
            ) { $0.handshakeTimeout = 300_000_000 }
            let begin = ContinuousClock.now
            let player = try RawSocket(to: server.address)
            player.write(hello + proof + Sodium.randomBytes(200))
            // One answer, which is worth nothing to who has not the hello's secret, and of which the same hello gets no second.
            #expect(player.read(Handshake.helloBytes + 1).count <= Handshake.helloBytes)
            #expect(ContinuousClock.now - begin >= .milliseconds(250), "the end came as for any garbage")
            #expect(handled.load(ordering: .relaxed) == 0 && server.exchange.traffic.isEmpty)
            #expect(server.exchange.strangers.unproven == 1)
            let again = try RawSocket(to: server.address)
            again.write(hello)
            #expect(again.read(1).isEmpty)
            server.exchange.stop()
        }

        @Test func strangersThatWaitDoNotKeepMembersOut() async throws {
            let server = try TestNode {
                $0.maxUnauthenticated = 8
                $0.maxUnauthenticatedPerAddress = 100
            }
            let idle = try (0..<14).map { _ in try RawSocket(to: server.address) }
            let client = try TestNode()
            guard case .missing = await client.ask(TestChunk(1).request, of: server) else { return #expect(Bool(false)) }
            #expect(await eventually { server.exchange.strangers.crowded >= 6 }, "the oldest made room")
            withExtendedLifetime(idle) {}
            client.exchange.stop()
            server.exchange.stop()
        }

        @Test func aHostThatKnocksAllTheTimeIsClosedAtOnce() async throws {
            let server = try TestNode { $0.handshakeTimeout = 10_000_000_000 }
            let begin = ContinuousClock.now
            var knocks = 0
            while server.exchange.strangers.crowded == 0, ContinuousClock.now - begin < .seconds(5) {
                try RawSocket(to: server.address).write([1])
                knocks += 1
            }
            #expect(server.exchange.strangers.crowded > 0 && knocks > AcceptGate.failuresPerSecond / 2)
            // In the next second it has its tries again.
            let client = try TestNode()
            var isServed = false
            for _ in 0..<5 where !isServed {
                if case .missing = await client.ask(TestChunk(1).request, of: server) { isServed = true }
                if !isServed { try await Task.sleep(for: .milliseconds(500)) }
            }
            #expect(isServed)
            client.exchange.stop()
            server.exchange.stop()
        }

        @Test func aPeerThatHammersIsPutOffAndOthersAreNot() async throws {
            let server = try TestNode {
                $0.chunksPerSecond = 10
                $0.messagesPerSecond = 5
            }
            let (hammer, other) = (try TestNode(), try TestNode())
            let chunks = (0..<100).map { _ in hammer.send(TestChunk(1).request, to: server).events }
            let messages = (0..<100).map { _ in hammer.send(PeerRequest(.message(kind: 9, payload: [])), to: server).events }
            var (busy, served) = (0, 0)
            for events in chunks + messages {
                if case .busy = await events.final() { busy += 1 } else { served += 1 }
            }
            #expect(served >= 60 && busy >= 100, "\(served) served, \(busy) put off")
            #expect(server.exchange.traffic[hammer.identity.id]?.limited == UInt64(busy))
            guard case .missing = await other.ask(TestChunk(1).request, of: server) else { return #expect(Bool(false)) }
            for node in [server, hammer, other] { node.exchange.stop() }
        }

        @Test func whoIsNoMemberIsNeitherServedNorDialled() async throws {
            let (server, member, other) = (try TestNode(), try TestNode(), try TestNode())
            server.exchange.setGate(MemberGate(allowed: [member.identity.id]))
            guard case .missing = await member.ask(TestChunk(1).request, of: server) else { return #expect(Bool(false)) }
            guard case .failed = await other.ask(TestChunk(1).request, of: server) else { return #expect(Bool(false)) }
            guard case .failed(.connectFailed(let why)) = await server.ask(TestChunk(1).request, of: other) else {
                return #expect(Bool(false))
            }
            #expect(why.contains("mesh.allow"))
            #expect(server.exchange.strangers.notAdmitted == 1)
            // An open connection ends with the membership.
            server.exchange.setGate(MemberGate(revoked: [member.identity.id]))
            #expect(
                await eventually {
                    let events = member.send(TestChunk(1).request, to: server).events
                    usleep(20_000)
                    return events.finals == 1 && server.exchange.strangers.notAdmitted >= 2
                })
            for node in [server, member, other] { node.exchange.stop() }
        }

        @Test func keysChangeWithoutALostRequest() async throws {
            let new = MeshKeyRing.randomKey()
            let both = try #require(TestNode.meshKeys.installing(new))
            let (server, client) = (try TestNode(), try TestNode())
            func ask(_ note: String) async {
                guard case .missing = await client.ask(TestChunk(1).request, of: server) else { return #expect(Bool(false), "\(note)") }
            }
            for node in [server, client] { node.exchange.setRing(both) }
            await ask("both have both")
            let used = try #require(both.using(both.fingerprints[1]))
            server.exchange.setRing(used)
            client.exchange.disconnect(server.identity.id)
            await ask("a client that does not use the new key yet")
            client.exchange.setRing(used)
            client.exchange.disconnect(server.identity.id)
            await ask("both use the new one")
            let last = try #require(MeshKeyRing(keys: [new]))
            for node in [server, client] { node.exchange.setRing(last) }
            await ask("the old one is gone")
            // Who was away cannot come back with the old key.
            let away = try TestNode { $0.handshakeTimeout = 300_000_000 }
            guard case .failed = await away.ask(TestChunk(1).request, of: server) else { return #expect(Bool(false)) }
            for node in [server, client, away] { node.exchange.stop() }
        }

        @Test func aConnectionMadeUnderARemovedKeyEndsWhenItRests() async throws {
            let server = try TestNode()
            let socket = try RawSocket(to: server.address)
            var session = try socket.session()
            let body = PeerFrame.RequestBody.chunk(TestChunk(1).id, .ifHeld, flist: nil)
            socket.write(session.sending.seal(.request(id: 1, body, priority: .foreground, deadline: 60_000)))
            #expect(!socket.read(2).isEmpty)
            server.exchange.setRing(try #require(MeshKeyRing(keys: [MeshKeyRing.randomKey()])))
            #expect(socket.read(1 << 16).count < 1 << 16, "closed")
            server.exchange.stop()
        }
    }

    /// `mesh.sealChunks`.
    @Suite(.timeLimit(.minutes(1))) struct SealedTests {
        static let piece = ProtocolLimits.sealedPieceBytes

        @Test(arguments: [0, 1, piece - 1, piece, piece + 1, 512 * 1024, ChunkLimits.maxStoredBytes])
        func chunksArriveWholeWhoeverWantsThemSealed(size: Int) async throws {
            let chunk = TestChunk(size)
            for (server, client) in [(true, false), (false, true), (true, true)] {
                let server = try TestNode(
                    handler: TestHandler { request, responder in
                        if request.priority == .prefetch {
                            responder.sendBytes(chunk.bytes)
                        } else {
                            responder.sendFile(chunk.open(), length: size)
                        }
                    }
                ) { $0.sealsBulk = server }
                let client = try TestNode { $0.sealsBulk = client }
                for priority in [FetchPriority.foreground, .prefetch, .foreground] {
                    var request = chunk.request
                    request.priority = priority
                    guard case .data(let buffer) = await client.ask(request, of: server) else { return #expect(Bool(false), "\(size)") }
                    #expect(Chunk(verifying: buffer, as: chunk.id) != nil)
                }
                client.exchange.stop()
                server.exchange.stop()
            }
        }

        @Test(arguments: [false, true]) func whoListensSeesChunkBytesOnlyWhereNobodySeals(seals: Bool) throws {
            let chunk = TestChunk(200_000)
            let server = try TestNode(handler: TestHandler { _, responder in responder.sendFile(chunk.open(), length: chunk.bytes.count) })
            { $0.sealsBulk = seals }
            let socket = try RawSocket(to: server.address)
            var session = try socket.session()
            #expect(session.sealsBulk == seals)
            let body = PeerFrame.RequestBody.chunk(chunk.id, .ifHeld, flist: nil)
            socket.write(session.sending.seal(.request(id: 1, body, priority: .foreground, deadline: 60_000)))
            let frame = 2 + 9 + 16
            let pieces = SessionCipher.bulkPieces(of: chunk.bytes.count)
            let received = socket.read(frame + chunk.bytes.count + (seals ? pieces * SessionCipher.bulkOverhead : 0))
            let middle = Array(chunk.bytes[100_000..<100_032])
            let isPlain = received.indices.dropLast(31).contains { Array(received[$0..<$0 + 32]) == middle }
            #expect(isPlain != seals)
            guard seals else { return server.exchange.stop() }
            var reader = FrameReader()
            reader.append(received)
            #expect(try session.receiving.open(&reader) == .data(id: 1, length: UInt32(chunk.bytes.count)))
            var opened = [UInt8](repeating: 0, count: chunk.bytes.count)
            var at = 0
            try opened.withUnsafeMutableBytes { room in
                while let count = try session.receiving.openBulk(&reader, into: UnsafeMutableRawBufferPointer(rebasing: room[at...])) {
                    at += count
                }
            }
            #expect(opened == chunk.bytes && at == opened.count)
            server.exchange.stop()
        }

        @Test func aFlippedBitInSealedBytesEndsTheConnection() async throws {
            let raw = try RawServer()
            let identity = NodeIdentity.random()
            raw.serve(identity) { socket, keys in
                // The proof, and the beginning of the request.
                _ = socket.read(100)
                var out = keys.sending.seal(.data(id: 1, length: 1000))
                let bytes = [UInt8](repeating: 5, count: 1000)
                bytes.withUnsafeBytes { keys.sending.sealBulk($0, to: &out) }
                out[out.count - 500] ^= 1
                socket.write(out)
                _ = socket.read(1)
            }
            let client = try TestNode { $0.sealsBulk = true }
            let events = Events()
            client.exchange.send(TestChunk(1).request, to: identity.id, at: raw.address, deadline: .seconds(10)) { events.add($0) }
            let answer = await events.final()
            guard case .failed(.protocolViolation) = answer else { return #expect(Bool(false), "\(describe(answer))") }
            client.exchange.stop()
        }
    }
}
