import ChunkModel
import Foundation
import Testing

@testable import UpstreamStores

@Suite struct BlockServerTests {
    let curl = CurlMulti()
    let pool = ChunkBufferPool()

    private func opener(_ credentials: UpstreamCredentials = UpstreamCredentials()) -> StoreOpener {
        StoreOpener(curl: curl, credentials: credentials, limits: UpstreamLimits(retry: RetryLimits(attempts: 1)))
    }

    private func chunk(_ bytes: [UInt8]) -> Chunk {
        let buffer = ChunkBuffer(copying: bytes)
        return Chunk(computed: ChunkID(ofStored: buffer.bytes), of: buffer)
    }

    private func failure(_ body: () async throws -> Void) async -> String {
        do {
            try await body()
            return ""
        } catch {
            return "\(error)"
        }
    }

    @Test(arguments: [1, 524_288, 1_200_000]) func whatIsStoredIsRead(size: Int) async throws {
        let server = try await TestScript.start("block_server.py")
        let url = "server://http://127.0.0.1:\(server.port)?token=fixed"
        let one = chunk(TestFiles.content(size))
        let opener = opener()
        let sink = try opener.openSink(url)
        #expect(sink.label == "server://http://127.0.0.1:\(server.port)")
        #expect(try await sink.contains(one.id) == false)
        for _ in 0..<2 { try await sink.store(one) }
        #expect(try await sink.contains(one.id))
        // Reading needs no token.
        let store = try opener.open("server://http://127.0.0.1:\(server.port)")
        #expect(try await store.fetch(one.id, pool: pool).withBytes { Array($0) } == one.buffer.withBytes { Array($0) })
        await #expect(throws: UpstreamError.missing) { try await store.fetch(chunk([7]).id, pool: pool) }
    }

    @Test func namesAndPasswordsGetATokenAndANewOneWhenItComesOfAge() async throws {
        let server = try await TestScript.start("block_server.py")
        let sink = try opener().openSink("server://http://pack%20er:p%22w%5C%2F%C3%A9@127.0.0.1:\(server.port)")
        for seed in 0..<5 { try await sink.store(chunk(TestFiles.content(100, seed: UInt64(seed)))) }
        #expect(try await server.ask("tokens") == "3")
    }

    @Test func refusalsNameNoSecret() async throws {
        let server = try await TestScript.start("block_server.py")
        let place = "server://http://127.0.0.1:\(server.port)"
        for (url, expected) in [
            ("server://http://pack%20er:s3cret@127.0.0.1:\(server.port)", "the name or the password is wrong"),
            ("\(place)?token=s3cret", "the token is not taken"), (place, "the token is not taken"),
        ] {
            let line = await failure { try await opener().openSink(url).store(chunk([1])) }
            #expect(line.contains(expected) && line.hasPrefix(place) && !line.contains("s3cret") && !line.contains("pack"), "\(line)")
        }
    }

    @Test func aServerThatNamesBlocksOtherwiseIsNotBelieved() async throws {
        let server = try await TestScript.start("block_server.py", ["sha256"])
        let line = await failure { try await opener().openSink("server://http://127.0.0.1:\(server.port)?token=fixed").store(chunk([1])) }
        #expect(line.contains("did not take chunk"), "\(line)")
    }
}
