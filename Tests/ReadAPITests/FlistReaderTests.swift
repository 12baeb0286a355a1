import BlockCodec
import BlockingThreads
import ChunkModel
import Flist
import FlistTools
import Foundation
import Synchronization
import Testing

@testable import ReadAPI

/// Chunks of a directory, counted.
final class CountedSource: ChunkSource {
    let directory: String
    let asked = Mutex<[ChunkID]>([])
    init(directory: String) { self.directory = directory }

    func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk? {
        asked.withLock { $0.append(id) }
        guard let bytes = FileManager.default.contents(atPath: "\(directory)/\(id.hex.prefix(2))/\(id.hex)") else { return nil }
        return Chunk(verifying: ChunkBuffer(copying: bytes), as: id)
    }
}

@Suite struct FlistReaderTests {
    static let block = ChunkLimits.blockBytes
    let threads = BlockingThreads(count: 2)
    let pool = ChunkBufferPool()

    private func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 9 ^ $0 >> 3) } }

    private func withReader(
        _ files: [String: [UInt8]], cache: DecodedBlockCache = DecodedBlockCache(),
        _ body: (FlistReader, CountedSource) async throws -> Void
    ) async throws {
        let directory = NSTemporaryDirectory() + "reader-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FileManager.default.createDirectory(atPath: directory + "/tree", withIntermediateDirectories: true)
        for (name, content) in files { try Data(content).write(to: URL(fileURLWithPath: "\(directory)/tree/\(name)")) }
        let options = PackOptions(
            directory: directory + "/tree", output: directory + "/made.fl",
            stores: [PackStore(url: "dir://" + directory, sink: DirStore(path: directory))])
        _ = try FlistPacker.pack(options)
        let source = CountedSource(directory: directory)
        let reader = FlistReader(
            flist: try FlistFile(path: directory + "/made.fl"), source: source, threads: threads, cache: cache, pool: pool)
        try await body(reader, source)
    }

    private func read(_ file: OpenFile, _ offset: Int, _ length: Int) async throws -> [UInt8] {
        var out: [UInt8] = []
        for slice in try await file.read(offset: UInt64(offset), length: length) { slice.withBytes { out += $0 } }
        return out
    }

    @Test(arguments: [0, 1, block - 1, block, block + 1, 3 * block + 7]) func everyRangeIsTheOriginal(size: Int) async throws {
        let content = bytes(size)
        try await withReader(["file": content]) { reader, _ in
            let file = try await reader.open(try await reader.entry(at: Array("/file".utf8)))
            #expect(file.size == UInt64(size))
            for offset in [0, 1, Self.block - 1, Self.block, Self.block + 1, 2 * Self.block, size - 1, size, size + 1] where offset >= 0 {
                for length in [0, 1, 2, Self.block, Self.block + 1, size + 10] {
                    let expected = Array(content[min(offset, size)..<min(offset + length, size)])
                    let got = try await read(file, offset, length)
                    #expect(got == expected, "size \(size), offset \(offset), length \(length): \(got.count) bytes")
                }
            }
        }
    }

    @Test func onlyTheChunksOfTheRangeTravelAndOnce() async throws {
        try await withReader(["file": bytes(3 * Self.block)]) { reader, source in
            let file = try await reader.open(try await reader.entry(at: Array("/file".utf8)))
            for offset in stride(from: Self.block, to: Self.block + 1000, by: 100) { _ = try await read(file, offset, 100) }
            #expect(source.asked.withLock { $0.count } == 1)
        }
    }

    @Test func equalContentHasAnEqualTag() async throws {
        try await withReader(["a": bytes(1000), "b": bytes(1000), "c": bytes(1001)]) { reader, _ in
            var tags: [String] = []
            for name in ["a", "b", "c"] {
                tags.append(try await reader.open(try await reader.entry(at: Array("/\(name)".utf8))).contentTag)
            }
            #expect(tags[0] == tags[1])
            #expect(tags[0] != tags[2])
        }
    }

    @Test func aChunkThatIsNowhereIsAnError() async throws {
        try await withReader(["file": bytes(10)]) { reader, source in
            let file = try await reader.open(try await reader.entry(at: Array("/file".utf8)))
            try FileManager.default.removeItem(atPath: source.directory + "/tree")
            for name in try FileManager.default.contentsOfDirectory(atPath: source.directory) where name.count == 2 {
                try FileManager.default.removeItem(atPath: "\(source.directory)/\(name)")
            }
            await #expect(throws: ReadError.self) { try await file.read(offset: 0, length: 1) }
        }
    }
}

@Suite struct DecodedBlockCacheTests {
    private func entry(_ number: Int, bytes: Int) -> (ChunkID, BlockKey, ChunkBuffer) {
        let plain = withUnsafeBytes(of: number) { Array($0) }
        let buffer = ChunkBufferPool(keep: 0).take()
        buffer.count = bytes
        return plain.withUnsafeBytes { (ChunkID(ofStored: $0), BlockKey(ofPlain: $0), buffer) }
    }

    @Test(arguments: [1, 4096, 300_000, ChunkLimits.blockBytes]) func memoryStaysBounded(size: Int) {
        let cache = DecodedBlockCache(maxBytes: 4 << 20)
        for number in 0..<2000 {
            let (id, key, buffer) = entry(number, bytes: size)
            cache.insert(buffer, for: id, key)
            #expect(cache.bytes <= 4 << 20)
        }
        let (id, key, _) = entry(1999, bytes: size)
        #expect(cache.block(id, key)?.count == size)
        // The memory that is really held, not only the plain bytes.
        #expect((cache.block(id, key)?.capacity ?? 0) < 2 * max(size, 4096) + 600_000)
    }

    @Test func theOneUsedLongestAgoGoesFirst() {
        let cache = DecodedBlockCache(maxBytes: 3 * ChunkBufferPool.commonBytes)
        let entries = (0..<4).map { entry($0, bytes: ChunkLimits.blockBytes) }
        for (id, key, buffer) in entries[..<3] { cache.insert(buffer, for: id, key) }
        _ = cache.block(entries[0].0, entries[0].1)
        cache.insert(entries[3].2, for: entries[3].0, entries[3].1)
        #expect(entries.map { cache.block($0.0, $0.1) != nil } == [true, false, true, true])
    }

    @Test func anotherKeyIsAnotherBlock() {
        let cache = DecodedBlockCache()
        let (id, key, buffer) = entry(1, bytes: 10)
        cache.insert(buffer, for: id, key)
        #expect(cache.block(id, entry(2, bytes: 0).1) == nil)
    }
}
