import BlockingThreads
import ChunkModel
import Flist
import FlistTools
import Foundation
import Synchronization
import Testing

/// Packing and unpacking that were interrupted, met a full disk or a store that fails, and go on.
@Suite struct ResumeTests {
    /// Packing blocks: not on the test's own thread.
    private func pack(_ options: PackOptions, stopAt bytes: UInt64 = .max) async throws -> PackReport {
        try await BlockingThreads(count: 1).run {
            try FlistPacker.pack(options) { if $0.bytesDone > bytes { throw CancellationError() } }
        }
    }

    private func options(_ scratch: Scratch, _ output: String, _ sinks: PackStore...) throws -> PackOptions {
        let stores = sinks.isEmpty ? [try PackStore(argument: scratch.sub("store"))] : sinks
        var options = PackOptions(directory: scratch.sub("tree"), output: scratch.sub(output), stores: stores)
        options.session.settleSeconds = -1
        return options
    }

    private func tree() throws -> Scratch {
        let scratch = try Scratch()
        try makeFiles(scratch.sub("tree"), count: 60)
        return scratch
    }

    private func leftOvers(_ scratch: Scratch) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { !["tree", "store", "out"].contains($0) }.sorted()
    }

    @Test(arguments: [false, true])
    func packingGoesOn(remote: Bool) async throws {
        let scratch = try tree()
        let store = RemoteStore()
        let sinks = remote ? [PackStore(url: "zdb://far", sink: store)] : [try PackStore(argument: scratch.sub("store"))]
        let first = try options(scratch, "a.fl", sinks[0])
        await #expect(throws: CancellationError.self) { try await pack(first, stopAt: 6_000_000) }
        #expect(try leftOvers(scratch) == ["a.fl.resume"])
        // What was under way when the run was stopped.
        await store.settle()
        let stored = store.state.withLock { $0.stored }

        let second = try await pack(first)
        #expect(second.problems == [])
        // From afar, all that was read may still have been under way.
        #expect((remote || second.resumedFiles > 5) && second.resumedFiles < 60)
        #expect(try leftOvers(scratch) == ["a.fl"])
        if remote {
            store.state.withLock { state in
                #expect(state.stored == state.chunks.count && state.stored >= stored)
                #expect(state.most <= 32, "\(state.most) requests at once")
            }
        }
        // The same as in one go.
        let whole = try await pack(try options(scratch, "b.fl", sinks[0]))
        #expect(whole.resumedFiles == 0 && whole.newChunks == 0 && whole.blocks == second.blocks)
        #expect(FileManager.default.contents(atPath: scratch.sub("a.fl")) == FileManager.default.contents(atPath: scratch.sub("b.fl")))
        let flist = try FlistFile(path: scratch.sub("a.fl"))
        let source: any ChunkSource = remote ? store : DirStoreSource(routes: flist.routes)
        let report = try await FlistVerifier.verify(flist, source: source)
        #expect(report.isComplete && report.chunks == report.goodChunks && report.chunks >= 60)
    }

    @Test func aFileThatChangedMeanwhileIsReadAgain() async throws {
        let scratch = try tree()
        let options = try options(scratch, "a.fl")
        await #expect(throws: CancellationError.self) { try await pack(options, stopAt: 6_000_000) }
        let changed = scratch.sub("tree/dir-0/file-1")
        try content(737, seed: 99).write(to: URL(fileURLWithPath: changed))
        _ = try await pack(options)
        let flist = try FlistFile(path: scratch.sub("a.fl"))
        let out = try await FlistExtractor.extract(
            flist, ExtractOptions(destination: scratch.sub("out")), from: BlockReader(DirStoreSource(routes: flist.routes)))
        #expect(out.problems == [])
        #expect(FileManager.default.contents(atPath: scratch.sub("out/dir-0/file-1")) == FileManager.default.contents(atPath: changed))
    }

    /// What the journal says was stored is not believed when the store has lost it.
    @Test func chunksThatLeftTheStoreAreStoredAgain() async throws {
        let scratch = try tree()
        let options = try options(scratch, "a.fl")
        await #expect(throws: CancellationError.self) { try await pack(options, stopAt: 6_000_000) }
        try FileManager.default.removeItem(atPath: scratch.sub("store"))
        let report = try await pack(options)
        #expect(report.problems == [] && report.resumedFiles == 0 && report.newChunks > 0)
        let flist = try FlistFile(path: scratch.sub("a.fl"))
        #expect(try await FlistVerifier.verify(flist, source: DirStoreSource(routes: flist.routes)).isComplete)
    }

    @Test(arguments: ["cut", "flipped", "other store"])
    func aJournalThatDoesNotFitIsLeftOut(how: String) async throws {
        let scratch = try tree()
        let options = try options(scratch, "a.fl")
        await #expect(throws: CancellationError.self) { try await pack(options, stopAt: 6_000_000) }
        let journal = scratch.sub("a.fl.resume")
        var bytes = try Data(contentsOf: URL(fileURLWithPath: journal))
        if how == "cut" { bytes = bytes.prefix(bytes.count * 2 / 3) }
        if how == "flipped" { bytes[bytes.count / 2] ^= 1 }
        try bytes.write(to: URL(fileURLWithPath: journal))
        let second = how == "other store" ? try self.options(scratch, "a.fl", try PackStore(argument: scratch.sub("store2"))) : options
        let report = try await pack(second)
        #expect(report.problems == [] && (report.resumedFiles == 0) == (how == "other store"))
        let flist = try FlistFile(path: scratch.sub("a.fl"))
        #expect(try await FlistVerifier.verify(flist, source: DirStoreSource(routes: flist.routes)).isComplete)
    }

    @Test func whatIsInTheWayIsKept() async throws {
        let scratch = try tree()
        try "mine".write(toFile: scratch.sub("a.fl.resume"), atomically: true, encoding: .utf8)
        let first = try options(scratch, "a.fl")
        let error = await #expect(throws: ToolError.self) { try await pack(first) }
        #expect(error?.message.contains("in the way") == true)
        #expect(try String(contentsOfFile: scratch.sub("a.fl.resume"), encoding: .utf8) == "mine")
        // Two at once.
        let second = try options(scratch, "b.fl")
        let session = try PackSession(second.session)
        let busy = await #expect(throws: ToolError.self) { try await pack(second) }
        #expect(busy?.message.contains("another run") == true)
        session.abort()
        #expect(try await pack(second).problems == [])
    }

    @Test func aStoreThatFailsEndsThePackWithItsLine() async throws {
        let scratch = try tree()
        let store = RemoteStore()
        store.state.withLock { $0.failsAfter = 20 }
        let options = try options(scratch, "a.fl", PackStore(url: "zdb://far", sink: store))
        await #expect(throws: RemoteStore.Broken.self) { try await pack(options) }
        #expect(!FileManager.default.fileExists(atPath: scratch.sub("a.fl")))
        store.state.withLock { $0.failsAfter = .max }
        #expect(try await pack(options).problems == [])
        let report = try await FlistVerifier.verify(FlistFile(path: scratch.sub("a.fl")), source: store)
        #expect(report.isComplete, "missing \(report.missing), bad \(report.bad), \(report.problems)")
    }

    @Test func replicasAndShardsGetTheirChunks() async throws {
        let scratch = try tree()
        let (all, low, high) = (RemoteStore(), RemoteStore(), RemoteStore())
        let options = try options(
            scratch, "a.fl", PackStore(url: "zdb://all", sink: all), PackStore(range: 0...0x7f, url: "zdb://low", sink: low),
            PackStore(range: 0x80...0xff, url: "zdb://high", sink: high))
        let report = try await pack(options)
        let chunks = all.state.withLock { Set($0.chunks.keys) }
        let lows = low.state.withLock { Set($0.chunks.keys) }
        let highs = high.state.withLock { Set($0.chunks.keys) }
        #expect(lows.union(highs) == chunks && lows.allSatisfy { $0.firstByte < 0x80 } && highs.allSatisfy { $0.firstByte >= 0x80 })
        #expect(report.newChunks == 2 * chunks.count)
        // A second pack sends nothing.
        #expect(try await pack(options).newChunks == 0)
        #expect(all.state.withLock { $0.stored } == chunks.count)
    }

    // MARK: Unpack

    private func packed() async throws -> (Scratch, FlistFile, BlockReader) {
        let scratch = try tree()
        _ = try await pack(try options(scratch, "a.fl"))
        let flist = try FlistFile(path: scratch.sub("a.fl"))
        return (scratch, flist, BlockReader(DirStoreSource(routes: flist.routes)))
    }

    private func differences(_ scratch: Scratch) throws -> String {
        let diff = Process()
        let pipe = Pipe()
        diff.executableURL = URL(fileURLWithPath: "/usr/bin/diff")
        diff.arguments = ["-r", scratch.sub("tree"), scratch.sub("out")]
        diff.standardOutput = pipe
        try diff.run()
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        diff.waitUntilExit()
        return text
    }

    @Test(arguments: [false, true])
    func unpackingGoesOn(direct: Bool) async throws {
        let (scratch, flist, reader) = try await packed()
        let options = ExtractOptions(destination: scratch.sub("out"))
        let source: PlainBlockSource = { try await reader.plainBlock($0) }
        func extract(_ progress: (@Sendable (ExtractProgress) -> Void)?) async throws -> ExtractReport {
            direct
                ? try await FlistExtractor.extract(flist, options, from: reader, progress: progress)
                : try await FlistExtractor.extract(flist, options, blocks: source, progress: progress)
        }
        let stopped = Task {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    _ = try await extract { if $0.files >= 20 { withUnsafeCurrentTask { $0?.cancel() } } }
                }
                try await group.waitForAll()
            }
        }
        _ = await stopped.result
        // What a killed run leaves: a temporary file, and a directory closed to others.
        try FileManager.default.createDirectory(atPath: scratch.sub("out/dir-3"), withIntermediateDirectories: true)
        let entry = try flist.resolve(Array("dir-3/file-59".utf8))
        let left = scratch.sub("out/dir-3/.chunkmesh-\(entry.ino).part")
        if !FileManager.default.fileExists(atPath: scratch.sub("out/dir-3/file-59")) {
            try "half".write(toFile: left, atomically: false, encoding: .utf8)
        }
        let report = try await extract(nil)
        #expect(report.problems == [])
        #expect(report.files + report.kept == 60)
        #expect(try differences(scratch) == "")
        #expect(!FileManager.default.fileExists(atPath: left))
    }

    @Test func whatDiffersIsKeptAndNamed() async throws {
        let (scratch, flist, reader) = try await packed()
        var options = ExtractOptions(destination: scratch.sub("out"))
        _ = try await FlistExtractor.extract(flist, options, from: reader)
        let (longer, same) = (scratch.sub("out/dir-0/file-1"), scratch.sub("out/dir-0/file-2"))
        try content(738, seed: 1).write(to: URL(fileURLWithPath: longer))
        // Of the same size and time, but not the same.
        var status = stat()
        #expect(stat(same, &status) == 0)
        try content(Int(status.st_size), seed: 77).write(to: URL(fileURLWithPath: same))
        utimes(same, [timeval(tv_sec: status.st_mtim.tv_sec, tv_usec: 0), timeval(tv_sec: status.st_mtim.tv_sec, tv_usec: 0)])
        let quick = try await FlistExtractor.extract(flist, options, from: reader)
        #expect(quick.problemCount == 1 && quick.problems[0].contains("file-1") && quick.kept == 59)
        options.comparesContent = true
        let thorough = try await FlistExtractor.extract(flist, options, from: reader)
        #expect(thorough.problemCount == 2 && thorough.kept == 58)
        #expect(FileManager.default.contents(atPath: longer)?.count == 738)
    }

    /// Links that lie in the way lead nowhere.
    @Test func linksInTheDestinationAreNotFollowed() async throws {
        let (scratch, flist, reader) = try await packed()
        for name in ["out", "elsewhere"] {
            try FileManager.default.createDirectory(atPath: scratch.sub(name), withIntermediateDirectories: true)
        }
        try FileManager.default.createSymbolicLink(atPath: scratch.sub("out/dir-0"), withDestinationPath: scratch.sub("elsewhere"))
        let report = try await FlistExtractor.extract(flist, ExtractOptions(destination: scratch.sub("out")), from: reader)
        #expect(report.problemCount == 17 && report.files == 44)
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.sub("elsewhere")) == [])
    }

    // MARK: No room

    @Test(.enabled(if: geteuid() == 0, "needs root: mounts a small tmpfs"))
    func aFullDiskEndsPackAndUnpackWithOneLine() async throws {
        let (scratch, flist, reader) = try await packed()
        let disk = try #require(SmallDisk(scratch.sub("disk"), size: "3m"))
        let toDisk = try options(scratch, "b.fl", try PackStore(argument: disk.path + "/store"))
        let error = await #expect(throws: ToolError.self) { try await pack(toDisk) }
        #expect(error?.message.contains("No space left on device") == true && error?.message.contains("\n") == false)
        #expect(!FileManager.default.fileExists(atPath: scratch.sub("b.fl")))
        try FileManager.default.removeItem(atPath: disk.path + "/store")

        let unpacked = await #expect(throws: ToolError.self) {
            try await FlistExtractor.extract(flist, ExtractOptions(destination: disk.path + "/out"), from: reader)
        }
        #expect(unpacked?.message.contains("No space left on device") == true)
        let names = try FileManager.default.subpathsOfDirectory(atPath: disk.path + "/out")
        #expect(names.contains { $0.contains("file-") } && !names.contains { $0.contains(".part") })
        for name in names where name.contains("file-") {
            #expect(
                FileManager.default.contents(atPath: disk.path + "/out/" + name)
                    == FileManager.default.contents(atPath: scratch.sub("tree/" + name)), "\(name) is whole or not there")
        }
        // The flist itself has no room.
        let filler = open(disk.path + "/filler", O_WRONLY | O_CREAT, 0o600)
        let zeros = [UInt8](repeating: 0, count: 65_536)
        while write(filler, zeros, zeros.count) > 0 {}
        close(filler)
        var inside = try options(scratch, "c.fl")
        inside.session.output = disk.path + "/c.fl"
        await #expect(throws: (any Error).self) { try await pack(inside) }
        #expect(try FileManager.default.contentsOfDirectory(atPath: disk.path).filter { $0.hasPrefix("c.fl") && $0 != "c.fl.resume" } == [])
    }
}
