import ChunkModel
import ChunkStore
import Foundation
import Glibc
import SQLiteFile
import Testing

@Suite struct RestartTests {
    let scratch = try! Scratch()
    let pool = ChunkBufferPool()

    /// Fills a cache with `chunks` and lets it go, in order or not.
    private func fill(_ chunks: [Chunk], orderly: Bool) throws {
        let store = try scratch.open()
        for chunk in chunks { #expect(store.insert(chunk) == .stored) }
        if orderly { store.close() }
    }

    @Test func orderlyStopIsTrusted() throws {
        let chunks = (0..<30).map { chunk($0) }
        try fill(chunks, orderly: true)
        let store = try scratch.open()
        #expect(Set(store.allIDs) == Set(chunks.map(\.id)))
        #expect(store.statistics.bytes == 30_000 && store.statistics.unverifiedChunks == 0)
        #expect(!FileManager.default.fileExists(atPath: scratch.path + "/cache/clean"))
    }

    @Test func afterAnUncleanStopNothingTornIsServed() throws {
        let chunks = (0..<10).map { chunk($0) }
        try fill(chunks, orderly: false)
        try damage(scratch.file(of: chunks[0].id))
        try damage(scratch.file(of: chunks[1].id))
        truncate(scratch.file(of: chunks[2].id), 0)
        let told = Told()
        let store = try scratch.open(onRemoved: { told.add($0) })
        #expect(store.statistics.unverifiedChunks == 9)
        #expect(!store.contains(chunks[2].id))
        #expect(try store.open(chunks[0].id) == nil)
        #expect(try store.read(chunks[1].id, into: pool) == nil)
        #expect(told.ids == [chunks[0].id, chunks[1].id])
        for chunk in chunks[3...] { #expect(try store.open(chunk.id) != nil) }
        #expect(store.statistics.unverifiedChunks == 0)
        #expect(store.statistics.torn == 3)
    }

    @Test func chunkIsHashedOnceAfterAnUncleanStop() throws {
        let chunk = chunk(1)
        try fill([chunk], orderly: false)
        let store = try scratch.open()
        #expect(try store.open(chunk.id) != nil)
        // Damage done behind the running daemon's back is not looked for by `open`.
        try damage(scratch.file(of: chunk.id))
        #expect(try store.open(chunk.id) != nil)
        #expect(try store.read(chunk.id, into: pool) == nil)
    }

    @Test func doubtOutlivesAnOrderlyStop() throws {
        let chunk = chunk(1)
        try fill([chunk], orderly: false)
        try damage(scratch.file(of: chunk.id))
        try scratch.open().close()
        let store = try scratch.open()
        #expect(store.statistics.unverifiedChunks == 1)
        #expect(try store.open(chunk.id) == nil)
    }

    @Test func insertHealsATornChunk() throws {
        let chunk = chunk(1)
        try fill([chunk], orderly: false)
        try damage(scratch.file(of: chunk.id))
        let store = try scratch.open()
        #expect(store.insert(chunk) == .stored)
        #expect(try store.read(chunk.id, into: pool) != nil)
        #expect(store.statistics.bytes == 1000 && store.statistics.chunks == 1)
    }

    @Test(arguments: ["missing", "damaged", "foreign", "short"])
    func indexIsRebuilt(fault: String) throws {
        let chunks = (0..<20).map { chunk($0) }
        try fill(chunks, orderly: true)
        let index = scratch.path + "/cache/index.db"
        switch fault {
        case "missing": unlink(index)
        case "damaged": try Data(repeating: 7, count: 8192).write(to: URL(fileURLWithPath: index))
        case "foreign":
            unlink(index)
            try SQLiteDatabase(path: index, mode: .readWrite).execute("CREATE TABLE chunks(id, size, lastUse, verified)")
        default: try SQLiteDatabase(path: index, mode: .readWrite).execute("DELETE FROM chunks WHERE id < x'80'")
        }
        do {
            let store = try scratch.open()
            #expect(Set(store.allIDs) == Set(chunks.map(\.id)))
            #expect(store.statistics.unverifiedChunks == 20)
            for chunk in chunks { #expect(try store.open(chunk.id) != nil) }
            store.close()
        }
        #expect(try scratch.open().statistics.unverifiedChunks == 0)
    }

    @Test func strangersInTheDirectoryAreLeftAloneAndOrphansRemoved() throws {
        let chunk = chunk(1)
        try fill([chunk], orderly: false)
        let base = scratch.path + "/cache/"
        let misplaced = base + "chunks/\(Hex.encode([chunk.id.firstByte &+ 1]))/\(chunk.id.hex)"
        for path in [base + "tmp/7", base + "chunks/00/notes.txt", misplaced] { try Data([1]).write(to: URL(fileURLWithPath: path)) }
        symlink("/etc/passwd", scratch.file(of: ChunkID([UInt8](repeating: 3, count: 32))!))
        let store = try scratch.open()
        #expect(store.allIDs == [chunk.id])
        #expect(scratch.names(in: "tmp").isEmpty)
        #expect(FileManager.default.fileExists(atPath: base + "chunks/00/notes.txt"))
    }

    @Test func orderOfUseSurvives() throws {
        let (old, new) = (chunk(1), chunk(2))
        try fill([old, new], orderly: true)
        let index = scratch.path + "/cache/index.db"
        let hex = old.id.hex
        try SQLiteDatabase(path: index, mode: .readWrite).execute("UPDATE chunks SET lastUse = 1000 WHERE id = x'\(hex)'")
        let store = try scratch.open(maxBytes: 2500)
        #expect(store.insert(chunk(3)) == .stored)
        #expect(!store.contains(old.id) && store.contains(new.id))
    }

    @Test func pinsSurvive() throws {
        let chunks = (0..<4).map { chunk($0) }
        do {
            let store = try scratch.open()
            _ = store.insert(chunks[0])
            try store.pin(owner: digest(1), [chunks[0].id, chunks[1].id, chunks[0].id])
            try store.pin(owner: digest(2), [chunks[2].id])
            #expect(try store.unpin(owner: digest(2)))
            #expect(try !store.unpin(owner: digest(2)))
        }
        let store = try scratch.open()
        #expect(store.pinOwners == [digest(1)])
        #expect(chunks.map { store.isPinned($0.id) } == [true, true, false, false])
        #expect(store.statistics.pinnedBytes == 1000)
    }

    @Test func killedProcessLosesNothingThatWasStored() throws {
        let helper = Bundle(for: Told.self).bundleURL.deletingLastPathComponent().appendingPathComponent("chunkstore-crash").path
        let beside = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().appendingPathComponent("chunkstore-crash")
            .path
        let process = Process()
        process.executableURL = URL(fileURLWithPath: FileManager.default.isExecutableFile(atPath: helper) ? helper : beside)
        process.arguments = [scratch.path + "/cache"]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        var output = Data()
        var lines = 0
        while lines < 300 {
            let more = pipe.fileHandleForReading.availableData
            if more.isEmpty { break }
            lines += more.count(where: { $0 == UInt8(ascii: "\n") })
            output += more
        }
        #expect(throws: ChunkStoreError.inUse(directory: scratch.path + "/cache", pid: process.processIdentifier)) {
            _ = try scratch.open()
        }
        kill(process.processIdentifier, SIGKILL)
        output += pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        let ids = String(decoding: output, as: UTF8.self).split(separator: "\n").compactMap { ChunkID(hex: $0) }
        #expect(ids.count >= 300)
        let store = try scratch.open()
        #expect(store.held(among: ids).allSatisfy { $0 })
        let report = try store.verify()
        #expect(report.bad.isEmpty && report.checked >= ids.count)
        #expect(scratch.names(in: "tmp").isEmpty)
    }
}
