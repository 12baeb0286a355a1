import ChunkModel
import Foundation
import Synchronization
import Testing

@testable import UpstreamStores

/// Against servers that lie, stall, close and babble.
@Suite(.serialized) struct ZDBFaultTests {
    let buffers = ChunkBufferPool()
    let chunks = (0..<8).map { Chunk.of(TestFiles.content(5_000, seed: UInt64($0))) }
    /// Short, for servers that keep to none of it.
    let quick = TransferLimits(
        connect: .milliseconds(300), lowSpeedBytes: 1_000, lowSpeedTime: .milliseconds(200), total: .milliseconds(1_500))
    /// Without the limits above a test that ends by them would take ten seconds and more.
    let soon = Duration.seconds(8)
    var single: ZDBPool.Limits {
        var limits = ZDBPool.Limits()
        (limits.connections, limits.inFlight, limits.prefetches) = (1, 16, 16)
        return limits
    }

    private func value(of key: [UInt8]) -> [UInt8]? {
        chunks.first { $0.id.bytes == key }?.buffer.withBytes { Array($0) }
    }

    /// Answers as it should.
    private func serve(_ connection: Listener.Connection, _ asked: (([UInt8]) -> Void)? = nil) {
        while let command = connection.command() {
            asked?(command[1])
            if let value = value(of: command[1]) { connection.send(value: value) } else { connection.send("$-1\r\n") }
        }
    }

    private func store(
        _ listener: Listener, counters: UpstreamCounters = UpstreamCounters(), attempts: Int = 1, pool: ZDBPool.Limits? = nil,
        transfer: TransferLimits = .chunk
    ) throws -> ZDBUpstream {
        try ZDBUpstream(
            url: "redis://127.0.0.1:\(listener.port)", counters: counters, transfer: transfer, attempts: attempts, pool: pool ?? single)
    }

    /// Fetches all chunks at once; how many came as they should.
    private func fetchAll(_ store: ZDBUpstream, _ priority: FetchPriority = .foreground) async -> Int {
        await withTaskGroup(of: Bool.self) { group in
            for chunk in chunks {
                group.addTask {
                    guard let buffer = try? await store.fetch(chunk.id, priority: priority, pool: buffers) else { return false }
                    return Chunk(verifying: buffer, as: chunk.id) != nil
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
    }

    /// Replies to GET that are none, and what is said of them.
    static let babble: [(String, String)] = [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak RESP"), ("$99999999999\r\n", "more than"), ("$3000000\r\n", "more than"),
        ("*1000000\r\n", "more than"), ("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", "nested"), ("$-7\r\n", "does not speak RESP"),
        ("$3\r\nabcdef\r\n", "does not end"), ("+" + String(repeating: "x", count: 5_000), "a line of more than"), ("+OK\r\n", "a status"),
        (":7\r\n", "a number"), ("*2\r\n$1\r\na\r\n$-1\r\n", "a list"), ("*0\r\n", "a list"), ("-ERR whatever\r\n", "ERR whatever"),
        ("-Namespace is temporarily frozen\r\n", "is frozen"), ("-Internal Error\r\n", "Internal Error"),
    ]

    @Test(arguments: babble) func whatIsNoValueIsAClearError(reply: String, expected: String) async throws {
        let listener = try Listener { connection in
            while connection.command() != nil { connection.send(reply) }
        }
        defer { listener.stop() }
        let error = await failure(try store(listener), chunks[0].id)
        #expect(error?.description.contains(expected) == true && error?.description.contains("\n") == false, "\(String(describing: error))")
        #expect(error?.description.hasPrefix("redis://127.0.0.1:\(listener.port): chunk ") == true)
    }

    @Test func linesThatNeverEndEndInAnError() async throws {
        let listener = try Listener { connection in
            guard connection.command() != nil else { return }
            for _ in 0..<200 { connection.send(String(repeating: "-", count: 1_000)) }
            connection.waitForEnd()
        }
        defer { listener.stop() }
        #expect(await failure(try store(listener), chunks[0].id)?.description.contains("a line of more than") == true)
    }

    @Test func anotherKeysValueIsLeftToTheConsumer() async throws {
        let wrong = chunks[1].buffer.withBytes { Array($0) }
        let listener = try Listener { connection in
            while connection.command() != nil { connection.send(value: wrong) }
        }
        defer { listener.stop() }
        let counters = UpstreamCounters()
        let liar = try store(listener, counters: counters)
        let routed = RoutedUpstream(routes: [Route(url: "x")]) { _ throws(UpstreamError) in liar }
        do throws(UpstreamError) {
            _ = try await routed.chunk(chunks[0].id, priority: .foreground, pool: buffers) { Chunk(verifying: $0, as: $1) }
            Issue.record("wrong bytes were taken")
        } catch {
            #expect(error.description.contains("wrong bytes"))
        }
        #expect(counters.snapshot.badContent == 1)
    }

    @Test func aStallInTheMiddleEndsInTime() async throws {
        let listener = try Listener { connection in
            guard connection.command() != nil else { return }
            connection.send("$5000\r\nonly this")
            connection.waitForEnd()
        }
        defer { listener.stop() }
        let start = ContinuousClock.now
        let error = await failure(try store(listener, transfer: quick), chunks[0].id)
        #expect(error?.description.contains("less than 1000 bytes per second") == true && error?.isRetryable == true)
        #expect(ContinuousClock.now - start < soon)
    }

    @Test func silenceEndsInTime() async throws {
        let listener = try Listener { $0.waitForEnd() }
        defer { listener.stop() }
        #expect(await failure(try store(listener, transfer: quick), chunks[0].id)?.description.contains("no reply within") == true)
        let start = ContinuousClock.now
        let silent = try ZDBUpstream(url: "zdb://127.0.0.1:\(listener.port)/ns", transfer: quick)
        #expect(await failure(silent, chunks[0].id)?.description.contains("no answer to its first command within 0.3 s") == true)
        #expect(ContinuousClock.now - start < soon)
    }

    @Test func aDripEndsWithTheWholeDeadline() async throws {
        let listener = try Listener { connection in
            guard connection.command() != nil else { return }
            connection.send("$5000\r\n")
            for _ in 0..<400 {
                connection.send([UInt8](repeating: 1, count: 10))
                usleep(5_000)
            }
        }
        defer { listener.stop() }
        var slow = quick
        (slow.lowSpeedBytes, slow.total) = (100, .milliseconds(600))
        let store = try ZDBUpstream(url: "redis://127.0.0.1:\(listener.port)", transfer: slow)
        #expect(await failure(store, chunks[0].id)?.description.contains("no complete reply within 0.6 s") == true)
    }

    @Test func aCloseInTheMiddleFailsOneAndTheOthersGoOn() async throws {
        let first = chunks[0].id.bytes
        let refused = Mutex(0)
        let listener = try Listener { connection in
            while let command = connection.command() {
                if command[1] == first,
                    refused.withLock({
                        $0 += 1; return $0
                    }) == 1
                {
                    connection.send("$5000\r\nhalf of")
                    return
                }
                guard let value = value(of: command[1]) else { return }
                connection.send(value: value)
            }
        }
        defer { listener.stop() }
        #expect(await fetchAll(try store(listener)) == 7)
        // The first one, asked again, comes too.
        refused.withLock { $0 = 0 }
        let counters = UpstreamCounters()
        #expect(await fetchAll(try store(listener, counters: counters, attempts: 2)) == 8)
        #expect(counters.snapshot.retries == 1 && counters.snapshot.failureCount == 1)
    }

    @Test func connectionsThatAreClosedBetweenRepliesCostNothing() async throws {
        let listener = try Listener { connection in
            guard let command = connection.command(), let value = value(of: command[1]) else { return }
            connection.send(value: value)
        }
        defer { listener.stop() }
        let store = try store(listener)
        for chunk in chunks { #expect(try await store.fetch(chunk.id, pool: buffers).count == 5_000) }
    }

    @Test func aDeletedNamespaceIsTold() async throws {
        let directory = try TestFiles.directory()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let path = directory + "/zdb.sock"
        let isThere = Mutex(true)
        let listener = try Listener(socket: path) { connection in
            guard connection.command()?[1] == Array("ns".utf8), isThere.withLock({ $0 }) else {
                return connection.send("-Namespace not found\r\n")
            }
            connection.send("+OK\r\n")
            while let command = connection.command() {
                guard isThere.withLock({ $0 }) else { return connection.send("-Namespace deleted\r\n") }
                connection.send(value: value(of: command[1]) ?? [0])
            }
        }
        defer { listener.stop() }
        let store = try ZDBUpstream(url: "zdb://\(path)?namespace=ns")
        #expect(try await store.fetch(chunks[0].id, pool: buffers).count == 5_000)
        isThere.withLock { $0 = false }
        #expect(await failure(store, chunks[0].id)?.description.contains("Namespace deleted") == true)
        #expect(await eventually { await failure(store, chunks[0].id)?.description.contains("no namespace ns") == true })
        isThere.withLock { $0 = true }
        #expect(await eventually { await failure(store, chunks[0].id) == nil })
    }

    @Test func requestsAreSentBeforeTheRepliesToEarlierOnes() async throws {
        // Answers only once all have arrived, and then in the order in which they came.
        let listener = try Listener { connection in
            let commands = (0..<8).compactMap { _ in connection.command() }
            for command in commands { connection.send(value: value(of: command[1]) ?? []) }
            connection.waitForEnd()
        }
        defer { listener.stop() }
        let counters = UpstreamCounters()
        #expect(await fetchAll(try store(listener, counters: counters)) == 8)
        #expect(listener.connections == 1 && counters.snapshot.connections == 1 && counters.snapshot.requests == 8)
    }

    @Test func aConnectionTakesNoMoreThanItsShare() async throws {
        let most = Mutex((now: 0, most: 0))
        let listener = try Listener { connection in
            while let command = connection.command() {
                most.withLock { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
                usleep(10_000)
                most.withLock { $0.now -= 1 }
                connection.send(value: value(of: command[1]) ?? [])
            }
        }
        defer { listener.stop() }
        var limits = ZDBPool.Limits()
        (limits.connections, limits.inFlight) = (3, 2)
        #expect(await fetchAll(try store(listener, pool: limits)) == 8)
        #expect(listener.connections <= 3 && most.withLock { $0.most } <= 3)
    }

    @Test func prefetchesStandBehindWhatSomebodyWaitsFor() async throws {
        let order = Mutex<[[UInt8]]>([])
        let open = DispatchSemaphore(value: 0)
        let listener = try Listener { connection in
            open.wait()
            serve(connection) { key in order.withLock { $0.append(key) } }
        }
        defer { listener.stop() }
        var limits = ZDBPool.Limits()
        (limits.connections, limits.inFlight, limits.prefetches) = (1, 3, 2)
        let store = try store(listener, pool: limits)
        let urgent = chunks[7].id
        async let prefetched = withTaskGroup(of: Void.self) { group in
            for chunk in chunks.prefix(7) {
                group.addTask { _ = try? await store.fetch(chunk.id, priority: .prefetch, pool: buffers) }
            }
        }
        #expect(await eventually { store.gate.report.active == 7 })
        async let waited = store.fetch(urgent, pool: buffers)
        #expect(await eventually { store.gate.report.active == 8 && listener.connections == 1 })
        // From the gate to the pool's event loop.
        try await Task.sleep(for: .milliseconds(50))
        open.signal()
        _ = try await waited
        await prefetched
        let place = order.withLock { $0.firstIndex(of: urgent.bytes) } ?? .max
        #expect(place <= 2, "asked for as number \(place)")
    }

    @Test func whoGivesUpDoesNotDisturbTheOthers() async throws {
        let open = DispatchSemaphore(value: 0)
        let listener = try Listener { connection in
            let commands = (0..<3).compactMap { _ in connection.command() }
            open.wait()
            for command in commands { connection.send(value: value(of: command[1]) ?? []) }
            serve(connection)
        }
        defer { listener.stop() }
        let counters = UpstreamCounters()
        let store = try store(listener, counters: counters)
        let tasks = chunks.prefix(3).map { chunk in
            Task { try await store.fetch(chunk.id, pool: buffers).withBytes { ChunkID(ofStored: $0) } }
        }
        #expect(await eventually { counters.snapshot.requests == 3 })
        tasks[1].cancel()
        let cancelled = await tasks[1].result
        #expect(throws: UpstreamError.cancelled) { try cancelled.get() }
        open.signal()
        #expect(try await tasks[0].value == chunks[0].id)
        #expect(try await tasks[2].value == chunks[2].id)
        #expect(try await store.fetch(chunks[3].id, pool: buffers).count == 5_000)
        #expect(listener.connections == 1 && counters.snapshot.failureCount == 0)
    }

    @Test func theSitesRateIsKept() async throws {
        let value = TestFiles.content(500_000)
        let listener = try Listener { connection in
            while connection.command() != nil { connection.send(value: value) }
        }
        defer { listener.stop() }
        let store = try ZDBUpstream(
            url: "redis://127.0.0.1:\(listener.port)", rate: ReceiveRate(bytesPerSecond: 2_000_000), transfer: .chunk)
        let start = ContinuousClock.now
        await withTaskGroup(of: Void.self) { group in
            for chunk in chunks.prefix(4) { group.addTask { _ = try? await store.fetch(chunk.id, pool: buffers) } }
        }
        // 2 MB at 2 MB/s, of which half a megabyte may come at once.
        #expect(ContinuousClock.now - start > .milliseconds(600))
    }

    @Test func idleConnectionsAreClosed() async throws {
        let ended = Mutex(false)
        let listener = try Listener { connection in
            serve(connection)
            ended.withLock { $0 = true }
        }
        defer { listener.stop() }
        var limits = ZDBPool.Limits()
        limits.idle = .milliseconds(50)
        let store = try store(listener, pool: limits)
        _ = try await store.fetch(chunks[0].id, pool: buffers)
        #expect(await eventually { ended.withLock { $0 } })
        #expect(try await store.fetch(chunks[1].id, pool: buffers).count == 5_000)
    }

    @Test func connectionsEndWithTheStore() async throws {
        let ended = Mutex(false)
        let listener = try Listener { connection in
            serve(connection)
            ended.withLock { $0 = true }
        }
        defer { listener.stop() }
        var store: ZDBUpstream? = try store(listener)
        _ = try await store?.fetch(chunks[0].id, pool: buffers)
        store = nil
        #expect(await eventually { ended.withLock { $0 } })
    }

    @Test func aStoreThatIsDownRestsAndOneFaultCountsOnce() async throws {
        let counters = UpstreamCounters()
        let port = try Listener.freePort()
        let store = try ZDBUpstream(url: "redis://127.0.0.1:\(port)", counters: counters, failures: 3)
        for _ in 0..<3 { #expect(await failure(store, chunks[0].id)?.description.contains("Connection refused") == true) }
        #expect(await failure(store, chunks[0].id)?.description.contains("is left alone") == true)
        #expect(counters.snapshot.resting == 1)
    }

    @Test func sinksSayWhatTheServerDoesNotTake() async throws {
        let replies = [
            ("-Namespace is in read-only mode\r\n", "is read-only"), ("-No space left on this namespace\r\n", "is full"),
            ("-Payload too big\r\n", "does not take it"), ("-OOM command not allowed when used memory > 'maxmemory'.\r\n", "is full"),
            ("-READONLY You can't write against a read only replica.\r\n", "is read-only"), (":1\r\n", "a number"),
            ("$4\r\n\0\0\0\u{1}\r\n", "keys of its own"), ("+QUEUED\r\n", "a status"),
        ]
        for (reply, expected) in replies {
            let listener = try Listener { connection in
                while connection.command() != nil { connection.send(reply) }
            }
            defer { listener.stop() }
            let error = await failure(storing: chunks[0], try ZDBSink(url: "zdb://127.0.0.1:\(listener.port)"))
            #expect(error?.description.contains(expected) == true && error?.isRetryable == false, "\(String(describing: error))")
        }
    }
}
