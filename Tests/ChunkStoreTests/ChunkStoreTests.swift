import ChunkModel
import ChunkStore
import Foundation
import Glibc
import Testing

@Suite struct ChunkStoreTests {
    let scratch = try! Scratch()
    let pool = ChunkBufferPool()

    @Test(arguments: [0, 1, ChunkLimits.blockBytes - 1, ChunkLimits.blockBytes, ChunkLimits.blockBytes + 1, ChunkLimits.maxStoredBytes])
    func chunkComesBackAsItWasStored(size: Int) throws {
        let store = try scratch.open()
        for length in [ChunkID.Length.full, .legacy] {
            let chunk = chunk(size, size: size, length: length)
            #expect(!store.contains(chunk.id))
            #expect(try store.read(chunk.id, into: pool) == nil)
            #expect(store.insert(chunk) == .stored)
            #expect(store.insert(chunk) == .alreadyHeld)
            #expect(store.contains(chunk.id))
            #expect(store.size(of: chunk.id) == size)
            let read = try #require(try store.read(chunk.id, into: pool))
            #expect(read.byteCount == size && memcmp(read.buffer.base, chunk.buffer.base, size) == 0)
            let open = try #require(try store.open(chunk.id))
            #expect(open.size == size)
            #expect(FileManager.default.fileExists(atPath: scratch.file(of: chunk.id)))
        }
        #expect(scratch.names(in: "tmp").isEmpty)
        #expect(store.statistics.chunks == 2)
        #expect(store.statistics.bytes == Int64(2 * size))
    }

    @Test func openChunkStaysReadableWhenTheChunkIsRemoved() throws {
        let store = try scratch.open()
        let chunk = chunk(1)
        _ = store.insert(chunk)
        let open = try #require(try store.open(chunk.id))
        #expect(store.remove([chunk.id]) == RemovalReport(chunks: 1, bytes: 1000))
        #expect(!FileManager.default.fileExists(atPath: scratch.file(of: chunk.id)))
        var bytes = [UInt8](repeating: 0, count: 1000)
        #expect(pread(open.fileDescriptor, &bytes, 1000, 0) == 1000)
        #expect(chunk.buffer.bytes.elementsEqual(bytes))
    }

    @Test func chunkWhoseFileVanishedOrChangedSizeIsReportedMissing() throws {
        let told = Told()
        let store = try scratch.open(onRemoved: { told.add($0) })
        let (gone, short, kept) = (chunk(1), chunk(2), chunk(3))
        for chunk in [gone, short, kept] { _ = store.insert(chunk) }
        unlink(scratch.file(of: gone.id))
        truncate(scratch.file(of: short.id), 10)
        #expect(try store.open(gone.id) == nil)
        #expect(try store.open(short.id) == nil)
        #expect(try store.open(kept.id) != nil)
        #expect(!store.contains(gone.id) && !store.contains(short.id))
        #expect(told.ids == [gone.id, short.id])
        #expect(store.statistics.vanished == 2)
        #expect(store.insert(gone) == .stored)
        #expect(try store.read(gone.id, into: pool) != nil)
    }

    @Test func readNeverYieldsWrongBytes() throws {
        let store = try scratch.open()
        let chunk = chunk(1)
        _ = store.insert(chunk)
        try damage(scratch.file(of: chunk.id))
        #expect(try store.read(chunk.id, into: pool) == nil)
        #expect(!store.contains(chunk.id))
        #expect(store.statistics.torn == 1)
        #expect(!FileManager.default.fileExists(atPath: scratch.file(of: chunk.id)))
    }

    @Test func verifyNamesAndRemovesBadChunks() throws {
        let told = Told()
        let store = try scratch.open(onRemoved: { told.add($0) })
        let chunks = (0..<20).map { chunk($0) }
        for chunk in chunks { _ = store.insert(chunk) }
        try damage(scratch.file(of: chunks[4].id))
        unlink(scratch.file(of: chunks[9].id))
        var calls = 0
        let report = try store.verify { done, all, _ in
            calls += 1
            #expect(done <= all)
            return true
        }
        #expect(calls == 20 && report.checked == 20 && report.bytes == 18_000)
        #expect(Set(report.bad) == [chunks[4].id, chunks[9].id])
        #expect(Set(told.ids) == Set(report.bad))
        #expect(try store.verify().bad.isEmpty)
        #expect(try store.verify { _, _, _ in false } == VerifyReport(checked: 1, bytes: 1000, isCancelled: true))
    }

    @Test func heldAndAllIDsAgreeWithContains() throws {
        let store = try scratch.open()
        let chunks = (0..<50).map { chunk($0, size: 10) }
        for (n, chunk) in chunks.enumerated() where n % 3 == 0 { _ = store.insert(chunk) }
        #expect(store.held(among: chunks.map(\.id)) == chunks.map { store.contains($0.id) })
        #expect(Set(store.allIDs) == Set(chunks.map(\.id).filter(store.contains)))
        #expect(store.held(among: []).isEmpty)
    }

    @Test func secondDaemonIsToldWhoHoldsTheDirectory() throws {
        let store = try scratch.open()
        #expect(throws: ChunkStoreError.inUse(directory: scratch.path + "/cache", pid: getpid())) { _ = try scratch.open(isPatient: false) }
        do { _ = try scratch.open(isPatient: false) } catch {
            #expect("\(error)".contains("pid \(getpid())") && "\(error)".contains(scratch.path))
        }
        store.close()
        _ = try scratch.open()
    }

    @Test func directoryThatCannotBeMadeGivesOneClearLine() throws {
        try Data().write(to: URL(fileURLWithPath: scratch.path + "/cache"))
        #expect(throws: ChunkStoreError.unusable(directory: scratch.path + "/cache", code: ENOTDIR)) { _ = try scratch.open() }
        #expect(!"\(ChunkStoreError.unusable(directory: "/x", code: EROFS))".contains("\n"))
    }

    @Test func closedStoreRefusesAndFindsNothing() throws {
        let store = try scratch.open()
        let chunk = chunk(1)
        _ = store.insert(chunk)
        store.close()
        store.close()
        #expect(store.insert(chunk) == .notStored(.closed))
        #expect(try store.open(chunk.id) == nil)
        #expect(!store.contains(chunk.id))
    }

    @Test func threadsInsertReadAndEvictAtOnce() async throws {
        let told = Told()
        let store = try scratch.open(maxBytes: 60_000, onRemoved: { told.add($0) })
        let chunks = (0..<200).map { chunk($0, size: 900 + $0) }
        await withTaskGroup { group in
            for worker in 0..<6 {
                group.addTask {
                    await withCheckedContinuation { done in
                        Thread {
                            let pool = ChunkBufferPool()
                            var generator = Seeded(state: UInt64(worker))
                            for _ in 0..<300 {
                                let chunk = chunks[Int.random(in: 0..<200, using: &generator)]
                                switch Int.random(in: 0..<10, using: &generator) {
                                case 0..<5: #expect(store.insert(chunk) != .notStored(.diskFull))
                                case 5..<8:
                                    if let read = try? store.read(chunk.id, into: pool) { #expect(read.byteCount == chunk.byteCount) }
                                case 8: if let open = try? store.open(chunk.id) { #expect(open.size == chunk.byteCount) }
                                default: store.remove([chunk.id])
                                }
                            }
                            done.resume()
                        }.start()
                    }
                }
            }
        }
        // The cache's own thread evicts on until the high mark is kept.
        let deadline = ContinuousClock.now + .seconds(5)
        while store.statistics.bytes > 57_000, .now < deadline { try await Task.sleep(for: .milliseconds(5)) }
        _ = store.gc()
        let figures = store.statistics
        #expect(figures.bytes <= 60_000 && figures.torn == 0 && figures.evicted > 0)
        #expect(figures.bytes == store.allIDs.reduce(0) { $0 + Int64(store.size(of: $1) ?? 0) })
        #expect(try store.verify().bad.isEmpty)
        #expect(scratch.names(in: "tmp").isEmpty)
        let files = (0..<256).flatMap { scratch.names(in: "chunks/" + Hex.encode([UInt8($0)])) }
        #expect(Set(files) == Set(store.allIDs.map(\.hex)))
        store.close()
        let again = try scratch.open(maxBytes: 60_000)
        #expect(Set(again.allIDs.map(\.hex)) == Set(files))
    }
}

struct Seeded: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
