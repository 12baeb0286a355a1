import ChunkModel
import Foundation
import Synchronization

/// `count` bytes: 64 KiB that repeat, a third of them compressible, with a number of their own in each.
func content(_ count: Int, seed: UInt64) -> Data {
    var state = seed &+ 0x9e37_79b9_7f4a_7c15
    var pattern = Data()
    while pattern.count < 65_536 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let word = (pattern.count >> 10).isMultiple(of: 3) ? UInt64(pattern.count & 31) : state ^ state >> 29
        withUnsafeBytes(of: word) { pattern.append(contentsOf: $0) }
    }
    var out = Data()
    while out.count < count {
        withUnsafeBytes(of: (UInt64(out.count) &+ seed) &* 0x9e37_79b9_7f4a_7c15) { out.append(contentsOf: $0) }
        out.append(pattern)
    }
    return out.prefix(count)
}

/// `path/dir-N/file-M`, sixteen in each: small files with a large one now and then.
func makeFiles(_ path: String, count: Int) throws {
    for number in 0..<count {
        let directory = "\(path)/dir-\(number / 16)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let size = number % 10 == 9 ? 1_700_000 : 700 + number * 37
        try content(size, seed: UInt64(number)).write(to: URL(fileURLWithPath: "\(directory)/file-\(number)"))
    }
}

/// A store in memory that is asked from afar: it suspends, counts, and fails when told to.
final class RemoteStore: ChunkSink, ChunkSource {
    struct Broken: Error, CustomStringConvertible { let description = "the store is full" }
    struct State {
        var chunks: [ChunkID: [UInt8]] = [:]
        var asked = 0
        var stored = 0
        var now = 0
        var most = 0
        var failsAfter = Int.max
    }

    let state = Mutex(State())
    let label = "remote"

    private func slowly<R>(_ body: (inout State) throws -> R) async throws -> R {
        state.withLock { state in
            state.now += 1
            state.most = max(state.most, state.now)
        }
        for _ in 0..<5 { await Task.yield() }
        return try state.withLock { state in
            state.now -= 1
            return try body(&state)
        }
    }

    func contains(_ id: ChunkID) async throws -> Bool {
        try await slowly { state in
            state.asked += 1
            return state.chunks[id] != nil
        }
    }

    func store(_ chunk: Chunk) async throws {
        let bytes = chunk.buffer.withBytes { Array($0) }
        try await slowly { state in
            guard state.stored < state.failsAfter else { throw Broken() }
            state.stored += 1
            state.chunks[chunk.id] = bytes
        }
    }

    /// Waits until nobody asks any more.
    func settle() async { while state.withLock({ $0.now > 0 }) { await Task.yield() } }

    func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk? {
        let bytes = try await slowly { $0.chunks[id] }
        return bytes.flatMap { Chunk(verifying: ChunkBuffer(copying: $0), as: id) }
    }
}

/// A small tmpfs, unmounted with the test; `nil` without root.
final class SmallDisk {
    let path: String

    init?(_ path: String, size: String) {
        self.path = path
        guard geteuid() == 0, mkdir(path, 0o755) == 0, mount("tmpfs", path, "tmpfs", 0, "size=" + size) == 0 else { return nil }
    }

    deinit { umount2(path, Int32(MNT_DETACH)) }
}
