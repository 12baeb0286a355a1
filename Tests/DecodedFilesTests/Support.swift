import BlockCodec
import BlockingThreads
import ChunkModel
import Foundation
import Logging
import Synchronization
import Testing

@testable import DecodedFiles

/// Chunks in memory; those of `remote` take the slow way, and wait there until they are let through.
final class MemorySource: BlockSource {
    struct State {
        var chunks: [ChunkID: Chunk] = [:]
        var remote: Set<ChunkID> = []
        var missing: Set<ChunkID> = []
        var asked: [ChunkID] = []
        var now: [ChunkID] = []
        var hastened: [ChunkID] = []
        var cancelled = 0
        var waiting: [CheckedContinuation<Void, Never>] = []
        var isOpen = true
    }
    let state = Mutex(State())

    func chunkNow(_ id: ChunkID, pool: ChunkBufferPool) throws -> Chunk? {
        state.withLock { state in
            guard !state.remote.contains(id), !state.missing.contains(id) else { return nil }
            state.now.append(id)
            return state.chunks[id]
        }
    }

    func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk? {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                state.asked.append(id)
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
        if Task.isCancelled {
            state.withLock { $0.cancelled += 1 }
            throw CancellationError()
        }
        return state.withLock { $0.missing.contains(id) ? nil : $0.chunks[id] }
    }

    func hasten(_ id: ChunkID, priority: FetchPriority) async { state.withLock { $0.hastened.append(id) } }

    func hold() { state.withLock { $0.isOpen = false } }
    func letThrough() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }
}

/// Blocks for which there was no room, and their lengths.
final class Unstored: Sendable { let blocks = Mutex<[BlockRef: Int]>([:]) }

/// A cache in a directory of its own, and content for it.
final class DecodedFixture {
    static let block = ChunkLimits.blockBytes
    let directory: String
    let source = MemorySource()
    let pool = ChunkBufferPool()
    let threads = BlockingThreads(count: 2)
    let unstored = Unstored()
    private(set) var files: DecodedFiles!

    init(maxBytes: Int64? = 1 << 30, directory: String? = nil) throws {
        self.directory = directory ?? NSTemporaryDirectory() + "decoded-\(UUID().uuidString)"
        try open(maxBytes: maxBytes)
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func open(maxBytes: Int64? = 1 << 30) throws {
        var logger = Logger(label: "decoded")
        logger.logLevel = .critical
        files = nil
        files = try DecodedFiles(
            directory: directory, maxBytes: maxBytes, floor: { _ in 0 }, threads: threads, pool: pool, logger: logger
        ) { [unstored] ref, buffer in unstored.blocks.withLock { $0[ref] = buffer.count } }
    }

    /// Opens the directory as that thread sees it.
    func open(on thread: BlockingThreads) async throws {
        var logger = Logger(label: "decoded")
        logger.logLevel = .critical
        let (directory, threads, pool, unstored) = (directory, threads, pool, unstored)
        files = nil
        files = try await thread.run { [logger] in
            try DecodedFiles(
                directory: directory, maxBytes: 1 << 30, floor: { _ in 0 }, threads: threads, pool: pool, logger: logger
            ) { ref, buffer in unstored.blocks.withLock { $0[ref] = buffer.count } }
        }
    }

    /// Content of these block lengths: as all writers cut it when nothing else is said.
    func content(_ size: Int, seed: UInt64, lengths: [Int]? = nil) throws -> (bytes: [UInt8], blocks: [BlockRef]) {
        var generator = seed &* 0x9e37_79b9_7f4a_7c15 | 1
        var bytes = [UInt8](repeating: 0, count: size)
        for i in bytes.indices {
            if i & 63 == 0 { generator = generator &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407 }
            bytes[i] = UInt8(truncatingIfNeeded: generator >> UInt64(i & 31))
        }
        var blocks: [BlockRef] = []
        var start = 0
        for length in lengths ?? stride(from: 0, to: size, by: Self.block).map({ min(Self.block, size - $0) }) {
            let encoded = try bytes[start..<(start + length)].withUnsafeBytes { try BlockCodec.encode($0, pool: pool) }
            source.state.withLock { $0.chunks[encoded.id] = encoded.chunk }
            blocks.append(encoded.ref)
            start += length
        }
        return (bytes, blocks)
    }

    func read(_ file: DecodedFile, _ range: Range<Int>) throws -> [UInt8] {
        let descriptor = try files.descriptor(of: file)
        var out = [UInt8](repeating: 0xee, count: range.count)
        let count = out.withUnsafeMutableBytes { pread(descriptor.fd, $0.baseAddress, $0.count, off_t(range.lowerBound)) }
        return Array(out.prefix(max(0, count)))
    }
}

/// Counts calls from any thread.
final class Told: Sendable { let count = Atomic(0) }

func eventually(_ what: String, within seconds: Double = 10, _ condition: () -> Bool) async throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while !condition() {
        try #require(ContinuousClock.now < end, "not in time: \(what)")
        try await Task.sleep(for: .milliseconds(2))
    }
}
