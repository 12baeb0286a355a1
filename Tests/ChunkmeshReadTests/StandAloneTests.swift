import ChunkModel
import ChunkmeshRead
import Flist
import FlistTools
import Foundation
import Testing

/// Reading without a daemon.
@Suite struct StandAloneTests {
    static let block = ChunkLimits.blockBytes

    static let fixtures: String = {
        if let given = ProcessInfo.processInfo.environment["CHUNKMESH_FIXTURES"] { return given }
        let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let above = [package.deletingLastPathComponent(), package.deletingLastPathComponent().deletingLastPathComponent()]
        let places = above.map { $0.appendingPathComponent("shared/fixtures").path }
        return places.first { FileManager.default.fileExists(atPath: $0) } ?? places[0]
    }()

    struct Expected: Decodable {
        let blake2b: String?
    }

    /// Every file of an flist of either format reads as its maker says.
    @Test(arguments: [("fl/small", "fl/store", "fl"), ("legacy/rich", "legacy/blocks", "flist")])
    func fixturesReadAsTheyShould(name: String, store: String, suffix: String) async throws {
        let hashes = try String(contentsOfFile: "\(Self.fixtures)/\(name).expected.jsonl", encoding: .utf8).split(separator: "\n")
            .compactMap { try JSONDecoder().decode(Expected.self, from: Data($0.utf8)).blake2b }
        let flist = try await ReadableFlist.open(
            "\(Self.fixtures)/\(name).\(suffix)", through: .standAlone(stores: ["\(Self.fixtures)/\(store)"]))
        var found: [String] = []
        for try await item in flist.walk() where item.entry.isFile {
            let file = try await flist.file(item.entry)
            let hash = Blake2bStream()
            for try await piece in file.stream(piece: 100_000) { piece.withUnsafeBytes { hash.update($0) } }
            found.append(hash.finish().hex)
            #expect(hashes.contains(found.last!), "\(FlistPath.quoted(item.path))")
        }
        #expect(found.sorted() == hashes.sorted())
    }

    /// An flist of random files, its chunks in a directory.
    private func made(_ sizes: [Int], _ body: (_ flist: String, _ store: String, [[UInt8]]) async throws -> Void) async throws {
        let directory = NSTemporaryDirectory() + "read-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FileManager.default.createDirectory(atPath: directory + "/tree/sub", withIntermediateDirectories: true)
        var files: [[UInt8]] = []
        for (index, size) in sizes.enumerated() {
            var state = UInt64(index) &* 77 &+ 1
            let bytes = (0..<size).map { _ -> UInt8 in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 33)
            }
            files.append(bytes)
            try Data(bytes).write(to: URL(fileURLWithPath: "\(directory)/tree/sub/f\(index)"))
        }
        try FileManager.default.createSymbolicLink(atPath: directory + "/tree/link", withDestinationPath: "sub/f0")
        _ = try FlistPacker.pack(
            PackOptions(
                directory: directory + "/tree", output: directory + "/made.fl",
                stores: [PackStore(url: "dir://" + directory + "/store", sink: DirStore(path: directory + "/store"))]))
        try await body(directory + "/made.fl", directory + "/store", files)
    }

    @Test func lookingAndReading() async throws {
        try await made([3 * Self.block + 9, 0, 10]) { path, store, files in
            // By the flist's own routes.
            let flist = try await ReadableFlist.open(path, through: .standAlone())
            #expect(try await flist.list("/sub").map { String(decoding: $0.name, as: UTF8.self) }.sorted() == ["f0", "f1", "f2"])
            #expect(try await flist.stat("/link").size == UInt64(files[0].count))
            #expect(try await flist.stat("/link", followLinks: false).isFile == false)
            let file = try await flist.file("/link")
            for offset in [0, 1, Self.block - 1, Self.block, 3 * Self.block, files[0].count - 1, files[0].count, files[0].count + 5] {
                for count in [0, 1, Self.block + 2, 4 * Self.block] {
                    let expected = Array(files[0][min(offset, files[0].count)..<min(offset + count, files[0].count)])
                    #expect(try await file.read(at: UInt64(offset), count: count) == expected, "offset \(offset), count \(count)")
                }
            }
            var streamed: [UInt8] = []
            for try await piece in file.stream(from: 77) { streamed += piece }
            #expect(streamed == Array(files[0][77...]))
            #expect(try await flist.file("/sub/f1").read(at: 0, count: 10).isEmpty)
            for (path, code) in [("/nothing", FlistReadError.Code.notFound), ("/sub", .badRequest)] {
                do {
                    _ = try await flist.file(path)
                    Issue.record("\(path) was opened")
                } catch let error as FlistReadError {
                    #expect(error.code == code, "\(error)")
                }
            }
        }
    }

    /// A chunk that was altered or is missing is an error, never other bytes.
    @Test func wrongChunksAreErrors() async throws {
        try await made([2 * Self.block]) { path, store, files in
            let chunks = try FlistFile(path: path).uniqueChunks()
            let first = "\(store)/\(chunks[0].hex.prefix(2))/\(chunks[0].hex)"
            var bytes = try Data(contentsOf: URL(fileURLWithPath: first))
            bytes[100] ^= 1
            try bytes.write(to: URL(fileURLWithPath: first))
            try FileManager.default.removeItem(atPath: "\(store)/\(chunks[1].hex.prefix(2))/\(chunks[1].hex)")
            let file = try await ReadableFlist.open(path, through: .standAlone(stores: [store])).file("/sub/f0")
            await #expect(throws: FlistReadError.self) { try await file.read(at: 0, count: 10) }
            await #expect(throws: FlistReadError.self) { try await file.read(at: UInt64(Self.block), count: 10) }
        }
    }

    /// With a cache directory chunks come from the store once, also for the next process.
    @Test func theCacheDirectoryKeepsChunks() async throws {
        try await made([3 * Self.block]) { path, store, files in
            var options = ReadOptions()
            options.cacheDirectory = store + "-cache"
            do {
                let file = try await ReadableFlist.open(path, through: .standAlone(stores: [store]), options: options).file("/sub/f0")
                #expect(try await file.read(at: 0, count: files[0].count) == files[0])
            }
            try FileManager.default.removeItem(atPath: store)
            // The first one closes its directory in the background.
            var again: ReadableFlist?
            let end = ContinuousClock.now + .seconds(10)
            while again == nil, ContinuousClock.now < end {
                again = try? await ReadableFlist.open(path, through: .standAlone(stores: [store]), options: options)
                if again == nil { try await Task.sleep(for: .milliseconds(5)) }
            }
            let file = try await #require(again).file("/sub/f0")
            #expect(try await file.read(at: 0, count: files[0].count) == files[0])
        }
    }

    @Test func cancelledReadsEndAndManyShareOneFetch() async throws {
        try await made([4 * Self.block]) { path, store, files in
            let file = try await ReadableFlist.open(path, through: .standAlone(stores: [store])).file("/sub/f0")
            let task = Task {
                for try await _ in file.stream(piece: 1000) {}
            }
            task.cancel()
            await #expect(throws: FlistReadError.self) { try await task.value }
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for reader in 0..<16 {
                    group.addTask {
                        try await file.read(at: UInt64(reader * 1000), count: 600_000)
                            == Array(files[0][reader * 1000..<reader * 1000 + 600_000])
                    }
                }
                for try await isRight in group { #expect(isRight) }
            }
        }
    }

    @Test func whatCannotBeOpenedIsNamed() async throws {
        for (name, access) in [("/nowhere.fl", FlistAccess.standAlone()), ("x.fl", .daemon(socket: "/nowhere/api.sock"))] {
            var options = ReadOptions()
            options.deadline = .milliseconds(50)
            do {
                _ = try await ReadableFlist.open(name, through: access, options: options)
                Issue.record("\(name) was opened")
            } catch {
                #expect(error.code == .system || error.code == .noDaemon, "\(error)")
                #expect(!error.description.contains("\n"))
            }
        }
    }
}
