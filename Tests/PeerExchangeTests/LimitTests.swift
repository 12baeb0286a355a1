import ChunkModel
import MeshKeys
import PeerProtocol
import Testing

@testable import PeerExchange

/// A node's own limits, by bytes that arrive against time that passes.
extension ExchangeTests {
    @Suite(.timeLimit(.minutes(1))) struct LimitTests {
        static let size = 256 * 1024

        private func server(_ limits: ExchangeLimits) throws -> (TestNode, TestChunk) {
            let chunk = TestChunk(Self.size)
            let node = try TestNode(
                handler: TestHandler { request, responder in
                    if request.priority == .readAhead {
                        responder.sendBytes(chunk.bytes)
                    } else {
                        responder.sendFile(chunk.open(), length: Self.size)
                    }
                }, configure: { $0.limits = limits })
            return (node, chunk)
        }

        /// Seconds until all clients have all of their chunks.
        private func load(_ clients: [TestNode], _ server: TestNode, _ chunk: TestChunk, each: Int) async -> Double {
            let start = ContinuousClock.now
            let sent = clients.flatMap { client in
                (0..<each).map { turn in
                    var request = chunk.request
                    request.priority = turn.isMultiple(of: 2) ? .prefetch : .readAhead
                    return client.send(request, to: server).events
                }
            }
            for events in sent {
                guard case .data(let buffer) = await events.final() else {
                    Issue.record("a request failed")
                    continue
                }
                #expect(Chunk(verifying: buffer, as: chunk.id) != nil)
            }
            return (ContinuousClock.now - start) / .seconds(1)
        }

        @Test func `what a node sends keeps to its limit over all connections`() async throws {
            // 2 MiB at 16 Mbit/s: 1.05 s.
            let (server, chunk) = try server(ExchangeLimits(send: 16_000_000))
            let clients = try (0..<4).map { _ in try TestNode() }
            let seconds = await load(clients, server, chunk, each: 2)
            #expect((0.95...1.9).contains(seconds), "\(seconds) s")
            for node in clients + [server] { node.exchange.stop() }
        }

        @Test func `what a node receives keeps to its limit over all connections`() async throws {
            let (one, chunk) = try server(ExchangeLimits())
            let (two, _) = try server(ExchangeLimits())
            let client = try TestNode(configure: { $0.limits = ExchangeLimits(receive: 16_000_000) })
            async let first = load([client], one, chunk, each: 4)
            async let second = load([client], two, chunk, each: 4)
            let seconds = await max(first, second)
            #expect((0.9...1.9).contains(seconds), "\(seconds) s")
            for node in [one, two, client] { node.exchange.stop() }
        }

        @Test func `a limit is taken away while transfers wait for it`() async throws {
            let (server, chunk) = try server(ExchangeLimits(send: 1_000_000))
            let client = try TestNode()
            let start = ContinuousClock.now
            async let seconds = load([client], server, chunk, each: 4)
            #expect(await eventually { client.exchange.traffic[server.identity.id]?.requestsSent == 4 })
            server.exchange.setLimits(ExchangeLimits())
            _ = await seconds
            // At the old limit it would take eight seconds.
            #expect(ContinuousClock.now - start < .seconds(4))
            client.exchange.stop()
            server.exchange.stop()
        }

        @Test func `a transfer that is slow for our own limit is not taken for dead`() async throws {
            let chunk = TestChunk(Self.size)
            // 2.1 s for the chunk, and 300 ms without bytes would end it.
            let client = try TestNode(configure: {
                $0.limits = ExchangeLimits(receive: 1_000_000)
                $0.times.dataStall = 300_000_000
                $0.times.requestStall = 300_000_000
            })
            let server = try TestNode(
                handler: TestHandler { $1.sendFile(chunk.open(), length: Self.size) }, configure: { $0.limits = .init(send: 1_000_000) })
            guard case .data = await client.ask(chunk.request, of: server) else { return #expect(Bool(false), "the request failed") }
            client.exchange.stop()
            server.exchange.stop()
        }
    }
}

@Suite struct BulkLimitTests {
    private static let second: UInt64 = 1_000_000_000

    @Test func `somebody who waits goes before the rest, which is not starved`() {
        let limit = BulkLimit(bitsPerSecond: 8_000_000)
        var now = Self.second
        var moved: [FetchPriority: Int] = [:]
        var last: [FetchPriority: UInt64] = [.foreground: now, .prefetch: now]
        while now < 11 * Self.second {
            for priority in [FetchPriority.prefetch, .foreground] {
                let granted = limit.grant(1 << 20, priority, movedAt: last[priority]!, now: now)
                if granted > 0 { last[priority] = now }
                moved[priority, default: 0] += granted
            }
            now += BulkLimit.pause
        }
        let all = moved.values.reduce(0, +)
        #expect((9_900_000...10_100_000).contains(all), "\(all)")
        #expect(moved[.foreground]! > 9 * moved[.prefetch]!)
        #expect(moved[.prefetch]! > 0)
    }

    @Test func `what was granted and did not move is given back`() {
        let limit = BulkLimit(bitsPerSecond: 8_000_000)
        var now = Self.second
        var moved = 0
        while now < 3 * Self.second {
            let granted = limit.grant(100_000, .prefetch, movedAt: now, now: now)
            moved += granted / 2
            limit.charge(granted / 2 - granted)
            now += BulkLimit.pause
        }
        #expect((1_950_000...2_050_000).contains(moved), "\(moved)")
    }

    @Test func `without a limit everything is granted`() {
        let limit = BulkLimit(bitsPerSecond: nil)
        #expect(limit.grant(.max, .prefetch, movedAt: 0, now: 0) == .max)
        limit.charge(1 << 40)
        #expect(limit.grant(7, .prefetch, movedAt: 0, now: .max) == 7)
    }
}
