import ChunkModel
import Glibc
import MeshKeys
import PeerExchange
import PeerProtocol
import Synchronization
import Testing

extension ExchangeTests {
    @Suite(.timeLimit(.minutes(1))) struct RequestTests {
        static let block = 512 * 1024

        @Test(arguments: [0, 1, block - 1, block, block + 1, ChunkLimits.maxStoredBytes])
        func aChunkArrivesWholeFromAFileAndFromMemory(size: Int) async throws {
            let chunk = TestChunk(size)
            let server = try TestNode(
                handler: TestHandler { request, responder in
                    if request.priority == .prefetch {
                        responder.sendBytes(chunk.bytes)
                    } else {
                        responder.sendFile(chunk.open(), length: size)
                    }
                })
            let client = try TestNode()
            for priority in [FetchPriority.foreground, .prefetch] {
                var request = chunk.request
                request.priority = priority
                guard case .data(let buffer) = await client.ask(request, of: server) else { return #expect(Bool(false)) }
                #expect(Chunk(verifying: buffer, as: chunk.id) != nil)
            }
            #expect(client.exchange.traffic[server.identity.id]?.bytesIn == UInt64(2 * size))
            #expect(await eventually { server.exchange.traffic[client.identity.id]?.bytesOut == UInt64(2 * size) })
            #expect(client.exchange.traffic[server.identity.id]?.roundTrip != nil)
            client.exchange.stop()
            server.exchange.stop()
        }

        @Test func aThousandPipelinedRequestsGetTheirOwnBytes() async throws {
            let chunks = (0..<50).map { TestChunk(1000 + $0 * 997, seed: $0) }
            let byID = Dictionary(uniqueKeysWithValues: chunks.map { ($0.id, $0) })
            let server = try TestNode(
                handler: TestHandler { request, responder in
                    guard case .chunk(let id, _, _) = request.kind, let chunk = byID[id] else { return responder.missing() }
                    responder.sendBytes(chunk.bytes)
                })
            let client = try TestNode()
            let sent = (0..<1000).map { (chunks[$0 % 50], client.send(chunks[$0 % 50].request, to: server).events) }
            for (chunk, events) in sent {
                guard case .data(let buffer) = await events.final() else { return #expect(Bool(false)) }
                #expect(buffer.withBytes { Array($0) } == chunk.bytes)
            }
            client.exchange.stop()
            #expect(sent.allSatisfy { $0.1.finals == 1 })
            server.exchange.stop()
        }

        @Test func everyKindOfAnswerArrives() async throws {
            let server = try TestNode(
                handler: TestHandler { request, responder in
                    switch request.kind {
                    case .message(let kind, let payload):
                        switch kind {
                        case 0: responder.message(payload.reversed())
                        case 1: responder.busy(retryAfter: .milliseconds(250))
                        case 2: responder.refused(.notAllowed)
                        case 3: responder.missing()
                        case 4: responder.sendBytes([1])
                        default: break
                        }
                    case .flistPiece(_, let offset, let length):
                        responder.sendFile(TestFile.make(Array(0..<100)), offset: Int64(offset), length: length)
                    case .chunk: responder.missing()
                    }
                })
            let client = try TestNode()
            let big = (0..<(4 << 20)).map { UInt8(truncatingIfNeeded: $0 >> 9) }
            for payload in [[], [1, 2], big] {
                guard case .message(let answer) = await client.ask(PeerRequest(.message(kind: 0, payload: payload)), of: server) else {
                    return #expect(Bool(false))
                }
                #expect(answer == payload.reversed())
            }
            let answers = await [
                client.ask(PeerRequest(.message(kind: 1, payload: [])), of: server),
                client.ask(PeerRequest(.message(kind: 2, payload: [])), of: server),
                client.ask(PeerRequest(.message(kind: 3, payload: [])), of: server),
                client.ask(PeerRequest(.message(kind: 4, payload: [])), of: server),
                client.ask(PeerRequest(.message(kind: 5, payload: [])), of: server),
            ]
            guard case .busy(.milliseconds(250)) = answers[0], case .refused(.notAllowed) = answers[1], case .missing = answers[2],
                case .refused(.internalError) = answers[3], case .refused(.internalError) = answers[4]
            else { return #expect(Bool(false), "\(answers.map(describe))") }
            let piece = PeerRequest(.flistPiece(FlistDigest(Blake2b.hash256([])), offset: 10, length: 20))
            guard case .data(let buffer) = await client.ask(piece, of: server) else { return #expect(Bool(false)) }
            #expect(buffer.withBytes { Array($0) } == Array(10..<30))
            let tooLong = PeerRequest(.message(kind: 0, payload: big + [0]))
            guard case .failed(.invalidRequest) = await client.ask(tooLong, of: server) else { return #expect(Bool(false)) }
            client.exchange.stop()
            server.exchange.stop()
        }

        @Test func heartbeatsCarryASlowAnswerAndCancelReachesTheHandler() async throws {
            let handler = TestHandler { _, _ in }
            let slow = SlowHandler()
            let server = try TestNode(handler: slow) { $0.times.heartbeat = 50_000_000 }
            let client = try TestNode { $0.times.requestStall = 300_000_000 }
            let (events, _) = client.send(TestChunk(1).request, to: server)
            #expect(await eventually { events.pendings >= 8 })
            slow.kept.withLock { $0.first?.missing() }
            guard case .missing = await events.final() else { return #expect(Bool(false)) }

            let (second, id) = client.send(TestChunk(2).request, to: server)
            #expect(await eventually { slow.kept.withLock { $0.count } == 2 })
            client.exchange.cancel(id)
            guard case .failed(.cancelled) = await second.final() else { return #expect(Bool(false)) }
            #expect(await eventually { slow.cancelledCount.load(ordering: .relaxed) == 1 })

            let (third, _) = client.send(TestChunk(3).request, to: server, deadline: .milliseconds(100))
            guard case .failed(.timedOut) = await third.final() else { return #expect(Bool(false)) }
            #expect(await eventually { slow.cancelledCount.load(ordering: .relaxed) == 2 })
            #expect(handler.cancelledCount.load(ordering: .relaxed) == 0)
            client.exchange.stop()
            server.exchange.stop()
            slow.kept.withLock { $0 = [] }
        }

        @Test func thirtyTwoClientsAtOnceAndNoDescriptorIsLeft() async throws {
            let chunk = TestChunk(300_000)
            let before = LeakCheck.links().count
            let server = try TestNode(handler: TestHandler { _, responder in responder.sendFile(chunk.open(), length: chunk.bytes.count) })
            { $0.maxUnauthenticatedPerAddress = 64 }
            let clients = try (0..<32).map { _ in try TestNode { $0.threads = 1 } }
            let events = clients.flatMap { client in (0..<20).map { _ in client.send(chunk.request, to: server).events } }
            var whole = 0
            for event in events {
                guard case .data(let buffer) = await event.final() else { continue }
                if Chunk(verifying: buffer, as: chunk.id) != nil { whole += 1 }
            }
            #expect(whole == 640)
            for client in clients { client.exchange.stop() }
            server.exchange.stop()
            // What remains is each thread's own pair of descriptors, until the node is let go.
            let threads = 32 + 2
            #expect(LeakCheck.links().count <= before + 2 * threads, "descriptors leak")
        }

        @Test func stoppingEndsEveryRequestOnce() async throws {
            let slow = SlowHandler()
            let server = try TestNode(handler: slow)
            let client = try TestNode()
            let sent = (0..<300).map { _ in client.send(TestChunk(5).request, to: server).events }
            #expect(await eventually { slow.kept.withLock { $0.count } >= 100 })
            client.exchange.stop()
            let late = client.send(TestChunk(5).request, to: server).events
            guard case .failed(.stopped) = await late.final() else { return #expect(Bool(false)) }
            #expect((sent + [late]).allSatisfy { $0.finals == 1 })
            server.exchange.stop()
            // Answers that come too late must not leak the file they carry.
            let fd = TestFile.make([1])
            slow.kept.withLock { $0[0].sendFile(fd, length: 1) }
            #expect(fcntl(fd, F_GETFD) == -1 && errno == EBADF)
        }
    }
}

/// Keeps the responders and answers nothing.
final class SlowHandler: PeerRequestHandler {
    let kept = Mutex<[PeerResponder]>([])
    let cancelledCount = Atomic(0)
    func handle(_ request: PeerRequest, from peer: NodeID, responder: PeerResponder) { kept.withLock { $0.append(responder) } }
    func cancelled(_ id: PeerResponder.ID) { cancelledCount.add(1, ordering: .relaxed) }
}
