import ChunkModel
import Foundation
import Testing

@testable import UpstreamStores

@Suite struct FlistDownloadTests {
    let hub: FlakyHub
    let curl = CurlMulti()
    let target: String

    init() async throws {
        hub = try await FlakyHub.start()
        target = "\(hub.directory)/got.fl"
    }

    private var download: FlistDownload {
        FlistDownload(
            curl: curl, limits: TransferLimits(lowSpeedTime: .seconds(1)),
            retry: RetryLimits(attempts: 2, firstWait: .milliseconds(5)), maxBytes: 1_000_000)
    }

    private func put(_ bytes: [UInt8]) throws { try Data(bytes).write(to: URL(fileURLWithPath: "\(hub.directory)/image.fl")) }

    private func leftovers() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: hub.directory).filter { $0.contains(".part-") }
    }

    @Test(arguments: [0, 1, 128 * 1024, 700_001, 1_000_000])
    func theFileIsWrittenAndHashed(size: Int) async throws {
        let bytes = TestFiles.content(size)
        try put(bytes)
        let result = try await download.fetch(hub.url("plain/image.fl"), to: target)
        guard case .downloaded(target, let digest, size, _) = result else { throw UpstreamError.missing }
        #expect(digest.value == Blake2b.hash256(bytes))
        #expect([UInt8](try Data(contentsOf: URL(fileURLWithPath: target))) == bytes)
        #expect(try leftovers().isEmpty)
    }

    @Test func anUnchangedFlistIsNotSentAgain() async throws {
        try put(TestFiles.content(1_000))
        guard case .downloaded(_, _, _, let known) = try await download.fetch(hub.url("etag/image.fl"), to: target) else {
            Issue.record("not downloaded")
            return
        }
        #expect(known.etag != nil && known.lastModified == "Sat, 21 Nov 2026 10:00:00 GMT")
        try FileManager.default.removeItem(atPath: target)
        #expect(try await download.fetch(hub.url("etag/image.fl"), to: target, known: known) == .notModified)
        #expect(!FileManager.default.fileExists(atPath: target))
        #expect(curl.counters.snapshot.bodyBytes == 1_000)
        try put(TestFiles.content(1_001))
        let changed = try await download.fetch(hub.url("etag/image.fl"), to: target, known: known)
        guard case .downloaded(_, _, 1_001, _) = changed else {
            Issue.record("\(changed)")
            return
        }
    }

    @Test(arguments: [
        ("status-404/image.fl", "not found upstream"), ("status-500/image.fl", "status 500"), ("short/image.fl", ""),
        ("huge/image.fl", "declares more than"), ("endless/image.fl", "sends more than"), ("stall/image.fl", ""), ("loop/image.fl", ""),
    ])
    func failuresLeaveTheOldFileAlone(path: String, line: String) async throws {
        try put(TestFiles.content(1_000))
        try Data("old".utf8).write(to: URL(fileURLWithPath: target))
        await #expect {
            try await download.fetch(hub.url(path), to: target)
        } throws: {
            (line.isEmpty || "\($0)".contains(line)) && !"\($0)".contains("\n")
        }
        #expect(try String(contentsOfFile: target, encoding: .utf8) == "old")
        #expect(try leftovers().isEmpty)
    }

    private func putSum(_ text: String) throws { try Data(text.utf8).write(to: URL(fileURLWithPath: "\(hub.directory)/image.fl.md5")) }

    private func succeeds(_ behaviour: String) async throws -> Bool {
        guard case .downloaded = try await download.fetch(hub.url("\(behaviour)/image.fl?x=y"), to: target) else { return false }
        return true
    }

    /// MD5 of "hello": 5d41402abc4b2a76b9719d911017c592 (RFC 1321's algorithm, by md5sum).
    @Test(arguments: [
        "5d41402abc4b2a76b9719d911017c592", "5D41402ABC4B2A76B9719D911017C592\n", "5d41402abc4b2a76b9719d911017c592  image.fl\n",
        // No sums: the file is taken as it is.
        "", "<html>no such page</html>", "5d41402abc4b2a76b9719d911017c59", "5d41402abc4b2a76b9719d911017c592aa",
        String(repeating: "0", count: 5_000),
    ])
    func theSumBesideTheFlistMayAgreeOrBeNone(text: String) async throws {
        try put(Array("hello".utf8))
        try putSum(text)
        #expect(try await succeeds("plain"))
        #expect(try await hub.stats().paths.contains("/plain/image.fl.md5?x=y"))
    }

    @Test func anotherSumIsRefusedAfterOneMoreTry() async throws {
        try put(Array("hellO".utf8))
        try Data("old".utf8).write(to: URL(fileURLWithPath: target))
        try putSum("5d41402abc4b2a76b9719d911017c592  image.fl")
        await #expect {
            try await download.fetch(hub.url("plain/image.fl"), to: target)
        } throws: {
            "\($0)".contains("image.fl.md5 says 5d41402abc4b2a76b9719d911017c592") && !"\($0)".contains("\n")
        }
        #expect(try await hub.stats().paths.filter { $0.hasSuffix(".fl") }.count == 2)
        #expect(try String(contentsOfFile: target, encoding: .utf8) == "old")
        #expect(try leftovers().isEmpty)
    }

    @Test func aFileThatTheHubWasReplacingIsFetchedAgain() async throws {
        try put(Array("hello".utf8))
        try putSum("5d41402abc4b2a76b9719d911017c592")
        #expect(try await succeeds("replaced"))
        #expect(try String(contentsOfFile: target, encoding: .utf8) == "hello")
    }

    @Test func anUnchangedFlistNeedsNoSum() async throws {
        try put(Array("hello".utf8))
        guard case .downloaded(_, _, _, let known) = try await download.fetch(hub.url("etag/image.fl"), to: target) else { return }
        try putSum(String(repeating: "0", count: 32))
        #expect(try await download.fetch(hub.url("etag/image.fl"), to: target, known: known) == .notModified)
    }

    @Test func credentialsOfTheFileAreUsed() async throws {
        try put([1])
        let opener = StoreOpener(curl: curl)
        let download = FlistDownload(curl: curl, opener: opener, retry: RetryLimits(attempts: 1))
        await #expect { try await download.fetch(hub.url("auth/image.fl"), to: target) } throws: { "\($0)".contains("status 401") }
        opener.setCredentials(try .forTests("machine 127.0.0.1:\(hub.port) login me password s3cret"))
        _ = try await download.fetch(hub.url("auth/image.fl"), to: target)
    }

    @Test func aTargetThatCannotBeWrittenSaysSo() async throws {
        try put([1])
        await #expect {
            try await download.fetch(hub.url("plain/image.fl"), to: "\(hub.directory)/none/got.fl")
        } throws: {
            "\($0)".contains("cannot create the temporary file of")
        }
    }
}
