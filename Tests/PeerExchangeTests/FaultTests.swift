import ChunkModel
import Glibc
import MeshKeys
import PeerExchange
import PeerProtocol
import Testing

extension ExchangeTests {
    @Suite(.timeLimit(.minutes(1))) struct FaultTests {
        @Test func aPortInUseIsNamed() throws {
            let first = try TestNode()
            let port = try #require(first.exchange.boundPort)
            let error = #expect(throws: ExchangeStartError.self) { try TestNode(listen: ["127.0.0.1:\(port)"]) }
            #expect(error?.description.contains("127.0.0.1:\(port): the port is in use") == true)
            first.exchange.stop()
        }

        @Test func withoutKeysANodeTalksOnLoopbackOnly() async throws {
            let server = try TestNode(keys: nil, listen: ["0.0.0.0:0"])
            let client = try TestNode(keys: nil)
            guard case .missing = await client.ask(TestChunk(1).request, of: server) else { return #expect(Bool(false)) }
            let events = Events()
            let far = try #require(NodeAddress("192.0.2.1:1"))
            client.exchange.send(TestChunk(1).request, to: NodeIdentity.random().id, at: far, deadline: .seconds(5)) { events.add($0) }
            guard case .failed(.connectFailed) = await events.final() else { return #expect(Bool(false)) }
            client.exchange.stop()
            server.exchange.stop()
        }

        @Test func bothAddressFamiliesAnswerOnOnePort() async throws {
            let server = try TestNode(listen: ["0.0.0.0:0", "[::]:0"])
            let client = try TestNode()
            let events = Events()
            let v6 = try #require(NodeAddress("[::1]:\(server.exchange.boundPort ?? 0)"))
            client.exchange.send(TestChunk(1).request, to: server.identity.id, at: v6, deadline: .seconds(5)) { events.add($0) }
            guard case .missing = await events.final() else { return #expect(Bool(false)) }
            client.exchange.stop()
            server.exchange.stop()
        }

        @Test func nobodyListening() async throws {
            let gone = try TestNode()
            let address = gone.address
            gone.exchange.stop()
            let client = try TestNode()
            let events = Events()
            client.exchange.send(TestChunk(1).request, to: gone.identity.id, at: address, deadline: .seconds(5)) { events.add($0) }
            let answer = await events.final()
            guard case .failed(.connectFailed) = answer else { return #expect(Bool(false), "\(describe(answer))") }
            client.exchange.stop()
        }

        @Test func anotherMeshKeyOrAnotherNodeIsNotTalkedTo() async throws {
            let server = try TestNode { $0.handshakeTimeout = 200_000_000 }
            let stranger = try TestNode(keys: MeshKeyRing(keys: [MeshKeyRing.randomKey()]))
            let refused = await stranger.ask(TestChunk(1).request, of: server)
            switch refused {
            case .failed(.closed), .failed(.handshakeFailed): break
            default: #expect(Bool(false), "\(describe(refused))")
            }
            let client = try TestNode()
            let events = Events()
            client.exchange.send(TestChunk(1).request, to: NodeIdentity.random().id, at: server.address, deadline: .seconds(5)) {
                events.add($0)
            }
            let answer = await events.final()
            guard case .failed(.handshakeFailed) = answer else { return #expect(Bool(false), "\(describe(answer))") }
            for node in [server, stranger, client] { node.exchange.stop() }
        }

        @Test(arguments: [0, 10, 168, 100_000]) func garbageAndSilenceAreMetBySilenceUntilTheTimeIsOver(size: Int) async throws {
            let server = try TestNode { $0.handshakeTimeout = 300_000_000 }
            let socket = try RawSocket(to: server.address)
            let clock = ContinuousClock()
            let begin = clock.now
            socket.write(Sodium.randomBytes(size))
            #expect(socket.read(1).isEmpty)
            #expect(clock.now - begin >= .milliseconds(250))
            server.exchange.stop()
        }

        @Test func anOldVersionIsToldAndClosed() throws {
            let server = try TestNode()
            let socket = try RawSocket(to: server.address)
            let old = ClientHandshake(
                identity: .random(), ring: TestNode.meshKeys, expected: nil, ephemeralSecret: Sodium.randomBytes(32), version: 0)
            socket.write(old.hello)
            #expect(socket.read(Handshake.replyBytes + 1).count == Handshake.replyBytes)
            server.exchange.stop()
        }

        @Test func anAddressThatOpensTooManyConnectionsIsHeldOff() async throws {
            let server = try TestNode { $0.maxUnauthenticatedPerAddress = 4 }
            let idle = try (0..<4).map { _ in try RawSocket(to: server.address) }
            let fifth = try RawSocket(to: server.address)
            #expect(fifth.read(1).isEmpty)
            withExtendedLifetime(idle) {}
            server.exchange.stop()
        }

        @Test func aServerKilledInAChunkEndsEachRequestOnce() async throws {
            let raw = try RawServer()
            let identity = NodeIdentity.random()
            raw.serve(identity) { socket, keys in
                _ = socket.read(300)
                socket.write(keys.sending.seal(.data(id: 1, length: 500_000)) + [UInt8](repeating: 1, count: 100_000))
            }
            let client = try TestNode()
            let sent = (0..<20).map { _ in Events() }
            for events in sent {
                client.exchange.send(TestChunk(1).request, to: identity.id, at: raw.address, deadline: .seconds(10)) { events.add($0) }
            }
            for events in sent {
                let answer = await events.final()
                guard case .failed(.closed) = answer else { return #expect(Bool(false), "\(describe(answer))") }
            }
            client.exchange.stop()
            #expect(sent.allSatisfy { $0.finals == 1 })
        }

        @Test func aSilentServerAndStandingDataAreNoticed() async throws {
            for stands in [false, true] {
                let raw = try RawServer()
                let identity = NodeIdentity.random()
                raw.serve(identity) { socket, keys in
                    _ = socket.read(140)
                    if stands { socket.write(keys.sending.seal(.data(id: 1, length: 500_000)) + [1, 2, 3]) }
                    // Holds the connection until the client drops it.
                    _ = socket.read(1 << 20)
                }
                let client = try TestNode {
                    $0.times.requestStall = 200_000_000
                    $0.times.dataStall = 200_000_000
                }
                let events = Events()
                client.exchange.send(TestChunk(1).request, to: identity.id, at: raw.address, deadline: .seconds(10)) { events.add($0) }
                let answer = await events.final()
                guard case .failed(.stalled) = answer else { return #expect(Bool(false), "\(describe(answer))") }
                #expect(client.exchange.traffic[identity.id]?.timeouts == 1)
                client.exchange.stop()
            }
        }

        @Test func anOversizedAnnouncementDropsTheServer() async throws {
            let raw = try RawServer()
            let identity = NodeIdentity.random()
            raw.serve(identity) { socket, keys in
                _ = socket.read(140)
                socket.write(keys.sending.seal(.data(id: 1, length: .max)))
                _ = socket.read(1 << 20)
            }
            let client = try TestNode()
            let events = Events()
            client.exchange.send(TestChunk(1).request, to: identity.id, at: raw.address, deadline: .seconds(10)) { events.add($0) }
            let answer = await events.final()
            guard case .failed(.protocolViolation) = answer else { return #expect(Bool(false), "\(describe(answer))") }
            client.exchange.stop()
        }

        @Test(arguments: 1...12 as ClosedRange<UInt64>) func aServerSurvivesDamagedStreams(seed: UInt64) async throws {
            let server = try TestNode { $0.handshakeTimeout = 300_000_000 }
            var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
            func random(_ below: Int) -> Int {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                return Int(state % UInt64(below))
            }
            let socket = try RawSocket(to: server.address)
            var session = try socket.session()
            var stream: [UInt8] = []
            for id in 1...20 as ClosedRange<UInt32> {
                stream += session.sending.seal(
                    .request(id: id, .message(kind: 1, total: 4, first: [1, 2, 3, 4]), priority: .foreground, deadline: 9))
            }
            stream[random(stream.count)] ^= UInt8(1 + random(255))
            socket.write(stream)
            shutdown(socket.fd, Int32(SHUT_WR))
            _ = socket.read(1 << 16)
            let client = try TestNode()
            guard case .missing = await client.ask(TestChunk(1).request, of: server) else { return #expect(Bool(false), "seed \(seed)") }
            client.exchange.stop()
            server.exchange.stop()
        }

        @Test func aClientThatStopsReadingIsDroppedAndItsFilesAreClosed() async throws {
            let chunk = TestChunk(ChunkLimits.maxStoredBytes)
            let server = try TestNode(handler: TestHandler { _, responder in responder.sendFile(chunk.open(), length: chunk.bytes.count) })
            {
                $0.sendStall = 300_000_000
            }
            let before = openFiles("/tmp")
            let socket = try RawSocket(to: server.address)
            var session = try socket.session()
            for id in 1...20 as ClosedRange<UInt32> {
                let body = PeerFrame.RequestBody.chunk(chunk.id, .ifHeld, flist: nil)
                socket.write(session.sending.seal(.request(id: id, body, priority: .foreground, deadline: 60_000)))
            }
            #expect(await eventually { openFiles("/tmp") > before })
            #expect(await eventually { openFiles("/tmp") <= before })
            server.exchange.stop()
        }

        @Test func clientsThatHangUpInAChunkDoNotHarmTheServer() async throws {
            let chunk = TestChunk(ChunkLimits.maxStoredBytes)
            let server = try TestNode(handler: TestHandler { _, responder in responder.sendFile(chunk.open(), length: chunk.bytes.count) })
            for _ in 0..<20 {
                let socket = try RawSocket(to: server.address)
                var session = try socket.session()
                for id in 1...4 as ClosedRange<UInt32> {
                    let body = PeerFrame.RequestBody.chunk(chunk.id, .ifHeld, flist: nil)
                    socket.write(session.sending.seal(.request(id: id, body, priority: .foreground, deadline: 60_000)))
                }
                _ = socket.read(100_000)
            }
            let client = try TestNode()
            guard case .data = await client.ask(chunk.request, of: server) else { return #expect(Bool(false)) }
            client.exchange.stop()
            server.exchange.stop()
        }

        private func openFiles(_ prefix: String) -> Int { LeakCheck.links().filter { $0.hasPrefix(prefix) }.count }
    }
}

/// Runs alone, so that the descriptors counted are its own.
enum LeakCheck {
    static func links() -> [String] {
        guard let directory = opendir("/proc/self/fd") else { return [] }
        defer { closedir(directory) }
        var out: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            var target = [UInt8](repeating: 0, count: 300)
            let n = target.withUnsafeMutableBytes {
                readlink("/proc/self/fd/\(name)", $0.baseAddress!.assumingMemoryBound(to: CChar.self), 300)
            }
            if n > 0 { out.append(String(decoding: target.prefix(n), as: UTF8.self)) }
        }
        return out
    }
}
