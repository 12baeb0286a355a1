import ChunkModel
import Foundation
import Testing

@testable import UpstreamStores

/// What went wrong with a fetch; `nil` when nothing did.
func failure(_ store: some UpstreamStore, _ id: ChunkID) async -> UpstreamError? {
    do throws(UpstreamError) {
        _ = try await store.fetch(id, pool: ChunkBufferPool(keep: 0))
        return nil
    } catch {
        return error
    }
}

/// What went wrong with storing; `nil` when nothing did.
func failure(storing chunk: Chunk, _ sink: some ChunkSink) async -> UpstreamError? {
    do {
        try await sink.store(chunk)
        return nil
    } catch {
        return error as? UpstreamError
    }
}

/// Against a real redis-server and the stand-in for zdb.
@Suite struct ZDBServerTests {
    let pool = ChunkBufferPool()

    private func roundTrip(_ url: String, length: ChunkID.Length = .full) async throws {
        let counters = UpstreamCounters()
        let sink = try ZDBSink(url: url, counters: counters)
        let store = try ZDBUpstream(url: url, counters: counters)
        for size in [1, 2, 16 * 1024, 524_288, ChunkBufferPool.commonBytes + 1, ChunkLimits.maxStoredBytes] {
            let chunk = Chunk.of(TestFiles.content(size), length: length)
            #expect(try await !sink.contains(chunk.id))
            #expect(await failure(store, chunk.id) == .missing)
            try await sink.store(chunk)
            try await sink.store(chunk)
            #expect(try await sink.contains(chunk.id))
            let buffer = try await store.fetch(chunk.id, pool: pool)
            #expect(Chunk(verifying: buffer, as: chunk.id) != nil, "\(size) bytes")
        }
        let counted = counters.snapshot
        #expect(counted.chunks == 6 && counted.missing == 6 && counted.failureCount == 0)
        #expect(counted.requests == 6 * 6 && counted.connections == 2)
        #expect(counted.valueBytes >= 524_288 + ChunkLimits.maxStoredBytes && counted.storedChunks == 12)
    }

    @Test func redisOverTCPAndUnixSocket() async throws {
        let redis = try await ServerProcess.redis()
        try await roundTrip("redis://127.0.0.1:\(redis.port)")
        try await roundTrip("ardb://localhost:\(redis.port)/ignored", length: .legacy)
        _ = try await redis.command("FLUSHALL")
        try await roundTrip("zdb://\(redis.directory)/redis.sock")
    }

    @Test func redisWithAPassword() async throws {
        let redis = try await ServerProcess.redis(password: "s3 cret")
        try await roundTrip("redis://s3%20cret@127.0.0.1:\(redis.port)")
        let id = Chunk.of([1]).id
        let without = await failure(try ZDBUpstream(url: "redis://127.0.0.1:\(redis.port)"), id)
        #expect(without?.description.contains("the server wants a password") == true)
        for url in ["redis://wr0ng@127.0.0.1:\(redis.port)", "redis://default:wr0ng@127.0.0.1:\(redis.port)"] {
            let wrong = await failure(try ZDBUpstream(url: url), id)
            #expect(wrong?.description.contains("wrong password") == true && wrong?.isRetryable == false)
            #expect(wrong?.description.contains("wr0ng") == false)
        }
        let open = try await ServerProcess.redis()
        let unwanted = await failure(try ZDBUpstream(url: "redis://pw@127.0.0.1:\(open.port)"), id)
        #expect(unwanted?.description.contains("the server wants no password") == true)
    }

    @Test func zdbNamespaces() async throws {
        let zdb = try await ServerProcess.zdb("closed:pw")
        let at = "127.0.0.1:\(zdb.port)"
        try await roundTrip("zdb://\(at)")
        for name in ["free", "public"] { #expect(try await zdb.command("NSNEW", name) == .simple("OK")) }
        _ = try await zdb.command("NSSET", "public", "password", "pw")
        try await roundTrip("zdb://\(at)/free", length: .legacy)
        try await roundTrip("zdb://:pw@\(at)/closed")
        try await roundTrip("zdb://user:pw@\(at)/public")
        let chunk = Chunk.of([1, 2, 3])
        let cases = [
            ("zdb://\(at)/none", "the server has no namespace none"), ("zdb://:wr0ng@\(at)/closed", "wrong password for namespace closed"),
            ("zdb://\(at)/closed", "namespace closed is private"),
        ]
        for (url, expected) in cases {
            for error in [await failure(try ZDBUpstream(url: url), chunk.id), await failure(storing: chunk, try ZDBSink(url: url))] {
                #expect(error?.description.contains(expected) == true && error?.isRetryable == false, "\(String(describing: error))")
                #expect(error?.description.contains("wr0ng") == false)
            }
        }
        // Everybody may read a public namespace; writing needs its password.
        try await ZDBSink(url: "zdb://:pw@\(at)/public").store(chunk)
        #expect(try await ZDBUpstream(url: "zdb://\(at)/public").fetch(chunk.id, pool: pool).count == 3)
        let refused = await failure(storing: Chunk.of([4]), try ZDBSink(url: "zdb://\(at)/public"))
        #expect(refused?.description.contains("namespace public is read-only") == true && refused?.isRetryable == false)
    }

    @Test func valuesThatAreNoChunksAreToldFromMissingOnes() async throws {
        let redis = try await ServerProcess.redis()
        let url = "redis://127.0.0.1:\(redis.port)"
        // A 16-byte id of letters, so that it can be written in a command.
        let id = ChunkID(Array("abcdefghijklmnop".utf8))!
        _ = try await redis.command("SET", "abcdefghijklmnop", "")
        let store = try ZDBUpstream(url: url)
        #expect(await failure(store, id)?.description.contains("empty value") == true)
        _ = try await redis.command("DEL", "abcdefghijklmnop")
        #expect(await failure(store, id) == .missing)
        _ = try await redis.command("LPUSH", "abcdefghijklmnop", "x")
        let wrong = await failure(store, id)
        #expect(wrong?.description.contains("WRONGTYPE") == true && wrong?.isRetryable == false)
        _ = try await redis.command("DEL", "abcdefghijklmnop")
        _ = try await redis.command("SETRANGE", "abcdefghijklmnop", "\(ChunkLimits.maxStoredBytes)", "x")
        let long = await failure(store, id)
        #expect(long?.description.contains("more than the \(ChunkLimits.maxStoredBytes) bytes") == true && long?.isRetryable == false)
        // That cost a connection, not the store.
        _ = try await redis.command("SET", "abcdefghijklmnop", "0123456789")
        #expect(try await store.fetch(id, pool: pool).count == 10)
    }

    @Test func aServerThatComesBackIsUsedAgain() async throws {
        let zdb = try await ServerProcess.zdb()
        let store = try ZDBUpstream(url: "zdb://127.0.0.1:\(zdb.port)", attempts: 3)
        let id = Chunk.of([1]).id
        #expect(await failure(store, id) == .missing)
        await zdb.stop()
        let down = await failure(store, id)
        #expect(down?.isRetryable == true && down?.description.contains("Connection refused") == true, "\(String(describing: down))")
        let port = zdb.port
        let back = try await offPool { try ServerProcess.zdb(at: port) }
        #expect(await eventually { await failure(store, id) == .missing })
        withExtendedLifetime(back) {}
    }

    @Test func manyAtOnceShareFewConnections() async throws {
        let redis = try await ServerProcess.redis()
        let url = "redis://127.0.0.1:\(redis.port)"
        let chunks = (0..<100).map { Chunk.of(TestFiles.content(20_000, seed: UInt64($0))) }
        let sink = try ZDBSink(url: url)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for chunk in chunks { group.addTask { try await sink.store(chunk) } }
            try await group.waitForAll()
        }
        let counters = UpstreamCounters()
        let store = try ZDBUpstream(url: url, counters: counters)
        let right = await withTaskGroup(of: Bool.self) { group in
            for chunk in chunks {
                group.addTask { (try? await store.fetch(chunk.id, pool: pool)).flatMap { Chunk(verifying: $0, as: chunk.id) } != nil }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(right == 100)
        #expect(counters.snapshot.connections <= ZDBPool.Limits().connections && counters.snapshot.requests == 100)
    }
}
