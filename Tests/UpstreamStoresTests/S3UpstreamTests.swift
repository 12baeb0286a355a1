import ChunkModel
import Foundation
import Testing

@testable import UpstreamStores

/// A real S3 server, and boto3 as the other client.
@Suite(.serialized, .enabled(if: S3Server.python != nil, "no Python here has moto and boto3; scripts/test installs them"))
struct S3UpstreamTests {
    let server: S3Server
    let curl = CurlMulti()
    let pool = ChunkBufferPool()

    init() async throws { server = try await S3Server.running() }

    private func opener(
        retry: RetryLimits = RetryLimits(attempts: 1), credentials: UpstreamCredentials = UpstreamCredentials(), named: [String] = []
    ) -> StoreOpener {
        let limits = UpstreamLimits(transfer: TransferLimits(lowSpeedTime: .seconds(1)), retry: retry)
        return StoreOpener(curl: curl, credentials: credentials, named: named, limits: limits)
    }

    private func bucket(_ name: String = "b\(UInt32.random(in: 0...UInt32.max))") async throws -> String {
        _ = try await server.ask("make \(name)")
        return name
    }

    private func chunk(_ bytes: [UInt8]) -> Chunk {
        let buffer = ChunkBuffer(copying: bytes)
        return Chunk(computed: ChunkID(ofStored: buffer.bytes), of: buffer)
    }

    private func line(_ url: String, _ opener: StoreOpener, _ id: ChunkID? = nil) async -> (line: String, isRetryable: Bool) {
        let id = id ?? chunk([1]).id
        do throws(UpstreamError) {
            _ = try await opener.open(url).fetch(id, pool: pool)
            return ("", false)
        } catch {
            return ("\(error)", error.isRetryable)
        }
    }

    @Test(arguments: [1, 524_287, 524_288, 1_200_000])
    func whatTheReferenceClientWroteIsRead(size: Int) async throws {
        let bytes = TestFiles.content(size, seed: 3)
        let one = chunk(bytes)
        let bucket = try await bucket()
        #expect(try await server.ask("put \(bucket) \(one.id.hex) \(Hex.encode(bytes))") == "done")
        let store = try opener().open(server.url(bucket))
        #expect(try await store.fetch(one.id, pool: pool).withBytes { Array($0) } == bytes)
        await #expect(throws: UpstreamError.missing) { try await store.fetch(chunk([9]).id, pool: pool) }
    }

    @Test(arguments: [1, 524_288, 1_200_000])
    func theReferenceClientReadsWhatWasStored(size: Int) async throws {
        let one = chunk(TestFiles.content(size, seed: 4))
        let bucket = try await bucket()
        let opener = opener()
        let sink = try opener.openSink(server.url(bucket))
        #expect(try await sink.contains(one.id) == false)
        try await sink.store(one)
        #expect(try await sink.contains(one.id))
        try await sink.store(one)
        #expect(try await server.ask("get \(bucket) \(one.id.hex)") == one.buffer.withBytes { Hex.encode(Array($0)) })
        // Store and sink of one URL are one upstream.
        #expect(try await opener.open(server.url(bucket)).fetch(one.id, pool: pool).count == size)
        let report = try #require(opener.reports.first)
        #expect(opener.reports.count == 1 && report.label == "s3://127.0.0.1:\(server.port)/\(bucket)")
        #expect(report.statistics.storedChunks == 2 && report.statistics.chunks == 1 && report.statistics.missing == 1)
    }

    @Test func regionsPrefixesAndTemporaryKeysAreSigned() async throws {
        let one = chunk(TestFiles.content(1_000, seed: 5))
        let bucket = try await bucket()
        try await opener().openSink(server.url(bucket + "/deep/er", query: "?region=eu-test-7")).store(one)
        #expect(try await server.ask("get \(bucket) deep/er/\(one.id.hex)") != "none")
        let url = server.url(bucket + "/deep/er", keys: nil)
        let environment = [
            "AWS_ACCESS_KEY_ID": "temporary", "AWS_SECRET_ACCESS_KEY": "other", "AWS_SESSION_TOKEN": "session-token/1=",
            "AWS_REGION": "eu-test-7",
        ]
        var session = try UpstreamCredentials.load(file: nil, environment: environment)
        #expect(await line(url, opener(credentials: session, named: [url]), one.id).line == "")
        session.aws?.sessionToken = nil
        #expect(await line(url, opener(credentials: session, named: [url]), one.id).line.contains("InvalidToken"))
    }

    @Test func keysOfTheEnvironmentGoToNamedHostsOnly() async throws {
        let one = chunk(TestFiles.content(1_000, seed: 6))
        let bucket = try await bucket()
        try await opener().openSink(server.url(bucket)).store(one)
        let environment = ["AWS_ACCESS_KEY_ID": S3Server.access, "AWS_SECRET_ACCESS_KEY": S3Server.secret]
        let keys = try UpstreamCredentials.load(file: nil, environment: environment)
        let url = server.url(bucket, keys: nil)
        #expect(await line(url, opener(credentials: keys, named: [url]), one.id).line == "")
        // An flist's route alone: sent without any.
        let refused = await line(url, opener(credentials: keys), one.id)
        #expect(refused.line.contains("no keys for this host (AccessDenied)"), "\(refused.line)")
        #expect(!(try await server.ask("stats")).contains("Authorization"))
        // Another port of a named host is another place.
        #expect(await line(url, opener(credentials: keys, named: ["s3://127.0.0.1:1/x"]), one.id).line.contains("AccessDenied"))
        // The file's host was named by who wrote the file.
        let folder = try TestFiles.directory()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let file = "\(folder)/netrc"
        try "machine 127.0.0.1:\(server.port) login \(S3Server.access) password \(S3Server.secret)".write(
            toFile: file, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
        let opener = opener()
        #expect(await line(url, opener, one.id).line.contains("AccessDenied"))
        opener.setCredentials(try .load(file: file, environment: [:]))
        #expect(await line(url, opener, one.id).line == "", "open stores see new credentials")
    }

    @Test func aPublicBucketIsReadWithoutKeys() async throws {
        let one = chunk(TestFiles.content(700, seed: 7))
        _ = try await bucket("public")
        _ = try await server.ask("put public \(one.id.hex) \(Hex.encode(TestFiles.content(700, seed: 7)))")
        #expect(await line(server.url("public", keys: nil), opener(), one.id).line == "")
    }

    @Test(arguments: [
        ("chunkmesh:wr0ng", "bucket", "the secret key is wrong (SignatureDoesNotMatch)"),
        ("nobody:x", "bucket", "the access key is not known there (InvalidAccessKeyId)"),
        (nil, "bucket", "the bucket is not open to everybody and there are no keys for this host (AccessDenied)"),
        ("chunkmesh:s3cr%2Fet%2Bkey%3D", "nobucket", "there is no bucket nobucket (NoSuchBucket)"),
        ("chunkmesh:s3cr%2Fet%2Bkey%3D", "skewed", "the clock of this machine and the server's differ too much; set the time"),
        ("chunkmesh:s3cr%2Fet%2Bkey%3D", "elsewhere", "the bucket lies in region eu-test-7; add ?region=eu-test-7 (PermanentRedirect)"),
        ("chunkmesh:s3cr%2Fet%2Bkey%3D", "hostile", "the server answered with status 403"),
        ("chunkmesh:s3cr%2Fet%2Bkey%3D", "headers", "bytes of headers"),
        ("chunkmesh:s3cr%2Fet%2Bkey%3D", "huge", "declares more than"),
    ])
    func refusalsAreToldInOneLine(keys: String?, bucket: String, expected: String) async throws {
        let opener = opener(retry: RetryLimits(attempts: 3, firstWait: .milliseconds(1)))
        let told = await line(server.url(bucket, keys: keys), opener)
        #expect(told.line.contains(expected), "\(told.line)")
        #expect(!told.isRetryable)
        for secret in ["s3cr", "wr0ng", "chunkmesh:", "nobody", "\n", "\u{1b}"] { #expect(!told.line.contains(secret), "\(told.line)") }
        #expect(opener.reports.first?.lastError == told.line)
        let sink = try opener.openSink(server.url(bucket, keys: keys))
        if bucket == "bucket" || bucket == "nobucket" {
            await #expect { try await sink.store(chunk([1])) } throws: { "\($0)".contains(expected) }
        }
    }

    @Test func aBusyServerIsAskedAgain() async throws {
        let opener = opener(retry: RetryLimits(attempts: 3, firstWait: .milliseconds(5)))
        let one = chunk(TestFiles.content(300, seed: UInt64.random(in: 0...1 << 40)))
        let bucket = "mended.2"
        _ = try? await server.ask("make \(bucket)")
        try await opener.openSink(server.url(bucket)).store(one)
        #expect(curl.counters.snapshot.retries >= 2)
        let told = await line(server.url("busy"), opener)
        #expect(told.isRetryable && told.line.contains("the server has too much to do (SlowDown)"))
        #expect(opener.reports.first { $0.label.hasSuffix("busy") }?.state == .resting)
    }

    @Test(arguments: ["stall", "short"])
    func transfersThatEndInTheMiddleFail(bucket: String) async throws {
        let told = await line(server.url(bucket), opener())
        #expect(told.isRetryable && !told.line.isEmpty)
    }

    @Test func aStoreThatLiesIsNotBelieved() async throws {
        let opener = opener()
        _ = try await bucket("lies")
        let one = chunk(TestFiles.content(5_000, seed: 8))
        try await opener.openSink(server.url("lies")).store(one)
        // Another key's bytes.
        let other = chunk(TestFiles.content(5_000, seed: 9))
        let swapped = try await bucket()
        _ = try await server.ask("put \(swapped) \(one.id.hex) \(other.buffer.withBytes { Hex.encode(Array($0)) })")
        for name in ["lies", swapped] {
            let routed = RoutedUpstream(routes: [Route(url: server.url(name))], opener: opener)
            await #expect {
                try await routed.chunk(one.id, priority: .foreground, pool: pool) { Chunk(verifying: $0, as: $1) }
            } throws: {
                "\($0)".contains("wrong bytes")
            }
            let report = try #require(opener.reports.first { $0.label.hasSuffix("/\(name)") })
            #expect(report.statistics.badContent == 1 && report.state == .failing)
        }
    }
}
