import ChunkModel
import Foundation
import Testing

@testable import UpstreamStores

@Suite struct DirUpstreamTests {
    let pool = ChunkBufferPool()

    private func withStore(_ body: (String) async throws -> Void) async throws {
        let directory = try TestFiles.directory()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try await body(directory)
    }

    @Test(arguments: [0, 1, 524_287, 524_288, 524_289, ChunkLimits.maxStoredBytes])
    func bothLayoutsAndAllSizesAreRead(size: Int) async throws {
        try await withStore { directory in
            let counters = UpstreamCounters()
            let store = try DirUpstream(url: "dir://\(directory)", counters: counters)
            for flat in [false, true] {
                let bytes = TestFiles.content(size, seed: flat ? 1 : 2)
                let id = try TestFiles.store(bytes, below: directory, flat: flat)
                #expect(try await store.fetch(id, pool: pool).withBytes { Array($0) } == bytes)
            }
            #expect(counters.snapshot.chunks == 2)
            #expect(counters.snapshot.directoryBytes == 2 * size)
        }
    }

    @Test func whatIsNotThereIsMissingAndNothingIsCreated() async throws {
        try await withStore { directory in
            let id = try #require(ChunkID(hex: String(repeating: "ab", count: 32)))
            await #expect(throws: UpstreamError.missing) { try await DirUpstream(url: "dir://\(directory)").fetch(id, pool: pool) }
            await #expect {
                try await DirUpstream(url: "dir://\(directory)/none").fetch(id, pool: pool)
            } throws: {
                ($0 as? UpstreamError)?.isRetryable == true
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)
        }
    }

    @Test func oddFilesAreRefused() async throws {
        try await withStore { directory in
            let store = try DirUpstream(url: "dir://\(directory)")
            let ids = (1...3).compactMap { ChunkID(hex: String(repeating: "0\($0)", count: 32)) }
            #expect(mkfifo("\(directory)/\(ids[0].hex)", 0o600) == 0)
            try FileManager.default.createDirectory(atPath: "\(directory)/\(ids[1].hex)", withIntermediateDirectories: true)
            #expect(FileManager.default.createFile(atPath: "\(directory)/\(ids[2].hex)", contents: nil))
            #expect(truncate("\(directory)/\(ids[2].hex)", ChunkLimits.maxStoredBytes + 1) == 0)
            for (id, cause) in zip(ids, ["not a regular file", "not a regular file", "longer than"]) {
                await #expect {
                    try await store.fetch(id, pool: pool)
                } throws: {
                    "\($0)".contains(cause) && ($0 as? UpstreamError)?.isRetryable == false
                }
            }
        }
    }

    @Test(arguments: ["dir://", "dir://relative/path", "dir:", "/path", "dir:///x\u{0}y"])
    func otherURLsAreUnusable(url: String) {
        #expect {
            try DirUpstream(url: url)
        } throws: {
            if case .unusable? = $0 as? UpstreamError { true } else { false }
        }
    }
}
