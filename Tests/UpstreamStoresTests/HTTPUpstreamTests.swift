import ChunkModel
import Foundation
import Testing

@testable import UpstreamStores

/// Retries at once, so that tests do not wait.
private let promptly = RetryLimits(attempts: 3, firstWait: .milliseconds(5), longestWait: .milliseconds(10))
private let once = RetryLimits(attempts: 1)

@Suite struct HTTPUpstreamTests {
    let hub: FlakyHub
    let curl = CurlMulti()
    let pool = ChunkBufferPool()

    init() async throws { hub = try await FlakyHub.start() }

    private func upstream(
        _ behaviour: String, retry: RetryLimits = once, transfer: TransferLimits = .chunk, failures: Int = 100
    ) throws -> HTTPUpstream {
        try HTTPUpstream(
            url: hub.url(behaviour), curl: curl, transfer: transfer, retry: retry, circuit: Circuit.Limits(failures: failures),
            random: UpstreamRandom(SeededGenerator(state: 7)))
    }

    private func failure(_ upstream: HTTPUpstream, _ id: ChunkID) async -> UpstreamError? {
        do throws(UpstreamError) {
            _ = try await upstream.fetch(id, pool: pool)
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: [
        0, 1, 524_287, 524_288, 524_289, ChunkBufferPool.commonBytes + 1, ChunkLimits.maxStoredBytes,
    ])
    func bodiesOfAllSizesArrive(size: Int) async throws {
        let bytes = TestFiles.content(size)
        let id = try TestFiles.store(bytes, below: hub.directory)
        for behaviour in size > 0 ? ["plain", "chunked", "redirect", "more"] : ["plain"] {
            let buffer = try await upstream(behaviour).fetch(id, pool: pool)
            #expect(buffer.withBytes { Array($0) } == bytes, "\(behaviour)")
        }
    }

    @Test func connectionsAreKeptAliveAndRequestsAreShort() async throws {
        let ids = try (0..<20).map { try TestFiles.store(TestFiles.content(10_000, seed: UInt64($0)), below: hub.directory) }
        let store = try upstream("plain")
        for id in ids { #expect(Chunk(verifying: try await store.fetch(id, pool: pool), as: id) != nil) }
        let stats = try await hub.stats()
        #expect(stats.connections == 1)
        #expect(stats.requests == 20)
        #expect(Set(stats.headers.keys) == ["Host", "User-Agent"])
        let counted = curl.counters.snapshot
        #expect(counted.requests == 20)
        #expect(counted.connections == 1)
        #expect(counted.bodyBytes == 200_000)
        #expect(counted.chunks == 20)
        #expect(counted.failureCount == 0)
    }

    @Test func manyAtOnceShareFewConnections() async throws {
        let ids = try (0..<100).map { try TestFiles.store(TestFiles.content(20_000, seed: UInt64($0)), below: hub.directory) }
        let store = try upstream("plain")
        let right = await withTaskGroup(of: Bool.self) { group in
            for id in ids {
                group.addTask { (try? await store.fetch(id, pool: pool)).flatMap { Chunk(verifying: $0, as: id) } != nil }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(right == 100)
        #expect(try await hub.stats().connections <= CurlWorker.connectionsPerHost)
    }

    @Test func theLayoutThatWorkedIsAskedFirst() async throws {
        let ids = try (0..<5).map { try TestFiles.store(TestFiles.content(100, seed: UInt64($0)), below: hub.directory, flat: true) }
        let store = try upstream("plain")
        for id in ids { _ = try await store.fetch(id, pool: pool) }
        #expect(try await hub.stats().requests == 6)
    }

    @Test func credentialsOfTheURLAndOfTheFileAreSentToTheirHostAlone() async throws {
        let other = try await FlakyHub.start()
        let id = try TestFiles.store([1, 2, 3], below: hub.directory)
        for bytes in ["", "api/v1/block/"] { try TestFiles.store([1, 2, 3], below: "\(other.directory)/\(bytes)", flat: !bytes.isEmpty) }
        let opener = StoreOpener(curl: curl, limits: UpstreamLimits(retry: once))
        let bare = hub.url("auth")
        await #expect { try await opener.open(bare).fetch(id, pool: pool) } throws: { "\($0)".contains("status 401") }
        let withKeys = { (path: String, scheme: String) in "\(scheme)http://me:s3cret@127.0.0.1:\(hub.port)/\(path)" }
        #expect(try await opener.open(withKeys("auth", "")).fetch(id, pool: pool).count == 3)
        opener.setCredentials(try .forTests("machine 127.0.0.1:\(hub.port) login me password s3cret"))
        #expect(try await opener.open(bare).fetch(id, pool: pool).count == 3)
        // The hub sends us on to another: it learns nothing.
        for url in [
            withKeys("cross-\(other.port)", ""), hub.url("cross-\(other.port)"), "server://\(hub.url("cross-\(other.port)"))?token=s3cret",
        ] {
            #expect(try await opener.open(url).fetch(id, pool: pool).count == 3, "\(url)")
            #expect(try await hub.stats().headers["Authorization"] != nil, "\(url)")
            #expect(try await other.stats().headers["Authorization"] == nil, "\(url)")
        }
    }

    @Test func headersAreBounded() async throws {
        let id = try TestFiles.store([1], below: hub.directory)
        let error = await failure(try upstream("headers"), id)
        #expect(error?.description.contains("bytes of headers") == true && error?.isRetryable == false)
    }

    @Test func missingInBothLayoutsIsMissing() async throws {
        let id = try #require(ChunkID(hex: String(repeating: "ab", count: 32)))
        let store = try upstream("plain", retry: promptly)
        #expect(await failure(store, id) == .missing)
        #expect(try await hub.stats().paths == ["/plain/ab/\(id.hex)", "/plain/\(id.hex)"])
        #expect(curl.counters.snapshot.missing == 2)
    }

    @Test func serverErrorsAreTriedAgain() async throws {
        let id = try TestFiles.store([1, 2, 3], below: hub.directory)
        let buffer = try await upstream("fail-2", retry: promptly).fetch(id, pool: pool)
        #expect(buffer.count == 3)
        let counted = curl.counters.snapshot
        #expect(counted.retries == 2)
        #expect(counted.failures == [.status: 2])
        #expect(try await hub.stats().connections == 1)
    }

    @Test func attemptsAreBounded() async throws {
        let id = try TestFiles.store([1], below: hub.directory)
        let error = await failure(try upstream("status-500", retry: promptly), id)
        #expect(error?.isRetryable == true)
        #expect(error?.description.hasSuffix("the server answered with status 500") == true)
        #expect(try await hub.stats().requests == 3)
    }

    @Test func aRefusalIsNotTriedAgain() async throws {
        let id = try TestFiles.store([1], below: hub.directory)
        let error = await failure(try upstream("status-403", retry: promptly), id)
        #expect(error?.isRetryable == false)
        #expect(try await hub.stats().requests == 1)
    }

    @Test func retryAfterIsObeyedUpToABound() async throws {
        let id = try TestFiles.store([1], below: hub.directory)
        let start = ContinuousClock.now
        _ = try await upstream("later-1-1", retry: promptly).fetch(id, pool: pool)
        #expect(ContinuousClock.now - start >= .milliseconds(990))
        let error = await failure(try upstream("later-1-3600", retry: promptly), id)
        #expect(error?.isRetryable == true)
        #expect(try await hub.stats().requests == 3)
    }

    @Test(arguments: ["stall", "silent", "drip"])
    func aHubThatStopsSendingTimesOut(behaviour: String) async throws {
        // Short: libcurl takes the speed over five seconds, in which the first half of a long body would still count.
        let id = try TestFiles.store(TestFiles.content(1_000), below: hub.directory)
        let start = ContinuousClock.now
        let limits = TransferLimits(lowSpeedTime: .seconds(1), total: .seconds(20))
        let error = await failure(try upstream(behaviour, transfer: limits), id)
        #expect(error?.isRetryable == true)
        #expect(ContinuousClock.now - start < .seconds(15))
        #expect(curl.counters.snapshot.failures == [.timeout: 1])
    }

    @Test func theWholeTransferHasATimeOut() async throws {
        let id = try TestFiles.store(TestFiles.content(100_000), below: hub.directory)
        let error = await failure(try upstream("drip", transfer: TransferLimits(total: .milliseconds(300))), id)
        #expect(error?.description.contains("timed out") == true, "\(String(describing: error))")
    }

    @Test func aCutBodyIsAFailure() async throws {
        let id = try TestFiles.store(TestFiles.content(1_000), below: hub.directory)
        #expect(await failure(try upstream("short"), id)?.isRetryable == true)
        #expect(curl.counters.snapshot.failures == [.broken: 1])
    }

    @Test func tooLongBodiesAreRefused() async throws {
        let id = try TestFiles.store(TestFiles.content(200_000), below: hub.directory)
        let declared = await failure(try upstream("huge", retry: promptly), id)
        #expect(declared?.description.contains("declares more than") == true)
        #expect(curl.counters.snapshot.bodyBytes == 0)
        let sent = await failure(try upstream("endless", retry: promptly), id)
        #expect(sent?.description.contains("sends more than") == true)
        #expect(curl.counters.snapshot.bodyBytes < ChunkLimits.maxStoredBytes + 2 * CurlTransfer.receiveBytes)
        #expect(curl.counters.snapshot.failures == [.tooLong: 2])
    }

    @Test func redirectsAreBoundedAndStayWithHTTP() async throws {
        let id = try TestFiles.store([1], below: hub.directory)
        #expect(await failure(try upstream("loop"), id)?.isRetryable == false)
        #expect(try await hub.stats().requests == CurlTransfer.maxRedirects + 1)
        #expect(await failure(try upstream("tofile"), id)?.isRetryable == false)
        #expect(curl.counters.snapshot.failures == [.redirect: 2])
    }

    @Test func aLongErrorPageIsNotRead() async throws {
        let id = try TestFiles.store([1], below: hub.directory)
        #expect(await failure(try upstream("errorpage"), id)?.description.contains("status 500") == true)
        #expect(curl.counters.snapshot.bodyBytes < 3 * CurlTransfer.receiveBytes)
    }

    @Test func aFailingHubIsLeftAlone() async throws {
        let id = try TestFiles.store([1], below: hub.directory)
        let store = try HTTPUpstream(
            url: hub.url("fail-2"), curl: curl, transfer: .chunk, retry: once,
            circuit: Circuit.Limits(failures: 2, firstRest: .milliseconds(300), longestRest: .seconds(1)), random: UpstreamRandom())
        for _ in 0..<2 { _ = await failure(store, id) }
        let resting = await failure(store, id)
        #expect(resting?.description.contains("left alone for another") == true)
        #expect(resting?.description.contains("status 503") == true)
        #expect(try await hub.stats().requests == 2)
        var back: ChunkBuffer?
        for _ in 0..<200 where back == nil {
            try await Task.sleep(for: .milliseconds(10))
            back = try? await store.fetch(id, pool: pool)
        }
        #expect(back?.count == 1)
        #expect(try await hub.stats().requests == 3)
    }

    @Test func wrongBytesCountAgainstTheHub() async throws {
        let id = try TestFiles.store([1, 2], below: hub.directory)
        let store = try upstream("wrong", failures: 1)
        #expect(Chunk(verifying: try await store.fetch(id, pool: pool), as: id) == nil)
        store.noteBadContent()
        #expect(await failure(store, id)?.description.contains("sent wrong bytes") == true)
        #expect(curl.counters.snapshot.badContent == 1)
    }

    @Test func nobodyThereIsAConnectFailure() async throws {
        let store = try HTTPUpstream(url: "http://user:secret@127.0.0.1:1/x", curl: curl, retry: once)
        let id = try #require(ChunkID(hex: String(repeating: "ab", count: 32)))
        let error = await failure(store, id)
        #expect(error?.isRetryable == true)
        #expect(error?.description.contains("secret") == false)
        #expect(store.label == "http://127.0.0.1:1/x")
        #expect(curl.counters.snapshot.failures == [.connect: 1])
    }

    @Test func aCancelledFetchEndsAtOnce() async throws {
        let id = try TestFiles.store([1], below: hub.directory)
        let store = try upstream("silent")
        let task = Task { await failure(store, id) }
        #expect(await eventually { (try? await hub.stats().requests) == 1 })
        let start = ContinuousClock.now
        task.cancel()
        #expect(await task.value == .cancelled)
        #expect(ContinuousClock.now - start < .seconds(8))
        let before = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return await failure(store, id)
        }
        #expect(await before.value == .cancelled)
    }

    @Test func aStoppedCurlThreadFailsWhatIsUnderWay() async throws {
        let counters = UpstreamCounters()
        let worker = CurlWorker(rate: ReceiveRate(), counters: counters)
        worker.start()
        let url = hub.url("silent/x")
        let result = await withCheckedContinuation { continuation in
            let request = CurlRequest(
                url: url, limits: .chunk, maxBodyBytes: 1, priority: .prefetch, sink: ChunkBody(pool: pool))
            worker.submit(CurlTransfer(id: worker.nextID(), request: request, continuation: continuation))
            worker.stop()
        }
        if case .success = result { Issue.record("the transfer went on") }
    }

    @Test func theReceiveRateIsKept() async throws {
        let rate = ReceiveRate(bytesPerSecond: 1_000_000)
        let slow = CurlMulti(rate: rate)
        let ids = try (0..<4).map { try TestFiles.store(TestFiles.content(300_000, seed: UInt64($0)), below: hub.directory) }
        let store = try HTTPUpstream(url: hub.url("plain"), curl: slow)
        let start = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            for id in ids {
                group.addTask {
                    let buffer = try await store.fetch(id, pool: pool)
                    #expect(Chunk(verifying: buffer, as: id) != nil)
                }
            }
            try await group.waitForAll()
        }
        let seconds = (ContinuousClock.now - start).seconds
        // 1.2 MB and their headers, less a tenth of a second's burst.
        #expect(seconds > 0.75, "\(seconds) s")
    }

    @Test(arguments: [
        ("ftp://host/x", "stores of the kind ftp:// are not supported"), ("http://", "not a URL"), ("", "not a URL"),
        ("http://h ost/", "not a URL"), ("http://host/\u{0}", "not a URL"), ("s3://key:secret@h/b", "s3:// are not supported"),
        ("zdb://:pw@host:9900/ns", "zdb:// are not supported"),
    ])
    func urlsThatCannotBeUsedSayWhy(url: String, line: String) {
        #expect {
            try HTTPUpstream(url: url, curl: curl)
        } throws: {
            guard case .unusable(let text)? = $0 as? UpstreamError else { return false }
            return text.contains(line) && !text.contains("secret") && !text.contains("pw")
        }
    }
}
