import Foundation
import Testing

@testable import UpstreamStores

@Suite struct SignatureDownloadTests {
    let hub: FlakyHub
    let download: SignatureDownload

    init() async throws {
        hub = try await FlakyHub.start()
        download = SignatureDownload(
            curl: CurlMulti(), limits: TransferLimits(lowSpeedTime: .seconds(1)),
            retry: RetryLimits(attempts: 2, firstWait: .milliseconds(5)))
        try Data([1, 2, 3]).write(to: URL(fileURLWithPath: "\(hub.directory)/image.fl.minisig"))
    }

    @Test func itLiesBesideTheFlist() async throws {
        #expect(try await download.fetch(of: hub.url("plain/image.fl"), maxBytes: 3) == [1, 2, 3])
        #expect(try await download.fetch(of: hub.url("plain/other.fl"), maxBytes: 3) == nil)
        #expect(try await download.fetch(of: hub.url("plain/image.fl?token=x"), maxBytes: 3) == [1, 2, 3])
    }

    @Test func whatIsTooLongOrFailsIsAnError() async throws {
        await #expect(throws: UpstreamError.self) { try await download.fetch(of: hub.url("plain/image.fl"), maxBytes: 2) }
        await #expect(throws: UpstreamError.self) { try await download.fetch(of: hub.url("status-500/image.fl"), maxBytes: 3) }
        await #expect(throws: UpstreamError.self) { try await download.fetch(of: "ftp://example.org/a.fl", maxBytes: 3) }
    }
}
