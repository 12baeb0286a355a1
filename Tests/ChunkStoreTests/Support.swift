import ChunkModel
import ChunkStore
import Foundation
import Glibc
import Logging
import Synchronization
import Testing

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A directory that goes away with the test.
final class Scratch: Sendable {
    let path: String

    init() throws {
        // In memory where there is such a place: an orderly stop flushes the whole file system.
        let base = FileManager.default.isWritableFile(atPath: "/dev/shm") ? "/dev/shm/" : NSTemporaryDirectory()
        path = base + "chunkstore-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// - Parameter isPatient: wait for the thread of a store that the test let go without closing it, which may hold the lock
    ///   for a moment longer.
    func open(
        maxBytes: Int64 = 1 << 30, minFree: ChunkStoreConfiguration.Floor = .bytes(0), isPatient: Bool = true,
        custody: @escaping @Sendable (ChunkID, Bool) -> Custody = { _, _ in .redundant },
        onRemoved: @escaping @Sendable ([ChunkID]) -> Void = { _ in }, onOffer: @escaping @Sendable ([ChunkID]) -> Void = { _ in },
        handOver: Duration = ChunkStoreLimits.handOver
    ) throws -> ChunkStore {
        let deadline = ContinuousClock.now + .seconds(5)
        while true {
            do {
                return try ChunkStore(
                    ChunkStoreConfiguration(
                        directory: path + "/cache", maxBytes: maxBytes, minFree: minFree, custody: custody, onRemoved: onRemoved,
                        onOffer: onOffer,
                        handOver: handOver),
                    logger: quiet)
            } catch ChunkStoreError.inUse(_, let pid) where isPatient && pid == getpid() && .now < deadline {
                usleep(1000)
            }
        }
    }

    func file(of id: ChunkID) -> String { path + "/cache/chunks/\(Hex.encode([id.firstByte]))/\(id.hex)" }

    /// The names in the cache's directory `name`.
    func names(in name: String) -> [String] { (try? FileManager.default.contentsOfDirectory(atPath: path + "/cache/" + name)) ?? [] }
}

/// A chunk of `size` bytes that is the same for the same number.
func chunk(_ number: Int, size: Int = 1000, length: ChunkID.Length = .full) -> Chunk {
    var generator = Seeded(state: UInt64(number))
    let buffer = ChunkBuffer(capacity: size + 8)
    for offset in stride(from: 0, to: size, by: 8) { buffer.base.storeBytes(of: generator.next(), toByteOffset: offset, as: UInt64.self) }
    buffer.count = size
    return Chunk(verifying: buffer, as: ChunkID(ofStored: buffer.bytes, length: length))!
}

/// Collects what a hook was told.
final class Told: Sendable {
    private let list = Mutex<[ChunkID]>([])
    var ids: [ChunkID] { list.withLock { $0 } }
    func add(_ ids: [ChunkID]) { list.withLock { $0 += ids } }
}

func digest(_ number: UInt8) -> FlistDigest { FlistDigest(Bytes32([UInt8](repeating: number, count: 32))!) }

/// Overwrites part of a file in place, as a torn write would.
func damage(_ path: String) throws {
    let handle = try #require(FileHandle(forUpdatingAtPath: path))
    try handle.write(contentsOf: Data([0xde, 0xad, 0xbe, 0xef]))
    try handle.close()
}
