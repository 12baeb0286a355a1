import ChunkModel
import Foundation
import Testing

@testable import UpstreamStores

private let openssl = "/usr/bin/openssl"

@Suite(.enabled(if: FileManager.default.isExecutableFile(atPath: openssl)))
struct TLSTests {
    /// One test, since it sets an environment variable that the other tests' plain connections do not look at.
    @Test func certificatesAreCheckedAgainstTheConfiguredAuthorities() async throws {
        let directory = try TestFiles.directory()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let (file, key) = ("\(directory)/cert.pem", "\(directory)/key.pem")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: openssl)
        process.arguments = [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", file,
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()

        let hub = try await FlakyHub.start(certificate: (file, key))
        let id = try TestFiles.store(TestFiles.content(1_000), below: hub.directory)
        let curl = CurlMulti()
        let store = try HTTPUpstream(url: hub.url("plain"), curl: curl)
        await #expect(throws: UpstreamError.self) { try await store.fetch(id, pool: ChunkBufferPool()) }
        #expect(curl.counters.snapshot.failures == [.tls: 1], "a bad certificate is not tried again")
        setenv("CURL_CA_BUNDLE", file, 1)
        defer { unsetenv("CURL_CA_BUNDLE") }
        for _ in 0..<3 { #expect(try await store.fetch(id, pool: ChunkBufferPool()).count == 1_000) }
        #expect(curl.counters.snapshot.connections == 2)
        // The same place as a bucket and as a block server; without keys a bucket is read anonymously.
        let flat = try TestFiles.store([1, 2, 3], below: hub.directory, flat: true)
        try TestFiles.store([1, 2, 3], below: "\(hub.directory)/api/v1/block", flat: true)
        let opener = StoreOpener(curl: curl)
        for url in ["s3s://127.0.0.1:\(hub.port)/plain", "server://\(hub.url("plain"))"] {
            #expect(try await opener.open(url).fetch(flat, pool: ChunkBufferPool()).count == 3, "\(url)")
        }
        let plain = StoreOpener(curl: curl, limits: UpstreamLimits(retry: RetryLimits(attempts: 1)))
        await #expect(throws: UpstreamError.self) {
            try await plain.open("s3://127.0.0.1:\(hub.port)/plain").fetch(flat, pool: ChunkBufferPool())
        }
    }
}
