import ChunkModel
import Flist
import FlistTools
import Foundation
import Testing

@Suite struct PackTests {
    /// 64 KiB that repeat, a third of them compressible, with a number of their own in each.
    private func bytes(_ count: Int, seed: UInt64) -> Data {
        var state = seed &+ 0x9e37_79b9_7f4a_7c15
        var pattern = Data()
        while pattern.count < 65_536 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let word = (pattern.count >> 10).isMultiple(of: 3) ? UInt64(pattern.count & 31) : state ^ state >> 29
            withUnsafeBytes(of: word) { pattern.append(contentsOf: $0) }
        }
        var out = Data()
        while out.count < count {
            withUnsafeBytes(of: UInt64(out.count) &* 0x9e37_79b9_7f4a_7c15) { out.append(contentsOf: $0) }
            out.append(pattern)
        }
        return out.prefix(count)
    }

    static let sizes = [0, 1, 524_287, 524_288, 524_289, 1_200_000]

    private func makeTree(_ path: String) throws {
        let files = FileManager.default
        try files.createDirectory(atPath: path + "/deep/er/still", withIntermediateDirectories: true)
        try files.createDirectory(atPath: path + "/empty", withIntermediateDirectories: true)
        for size in Self.sizes { try bytes(size, seed: UInt64(size)).write(to: URL(fileURLWithPath: "\(path)/deep/size-\(size)")) }
        try bytes(600_000, seed: 5).write(to: URL(fileURLWithPath: path + "/deep/er/same-1"))
        try bytes(600_000, seed: 5).write(to: URL(fileURLWithPath: path + "/same-2"))
        try files.linkItem(atPath: path + "/same-2", toPath: path + "/hard")
        try files.createSymbolicLink(atPath: path + "/link", withDestinationPath: "deep/er/../size-1")
        try files.createSymbolicLink(atPath: path + "/out", withDestinationPath: "/etc/passwd")
        try bytes(10, seed: 1).write(to: URL(fileURLWithPath: path + "/new\nline"))
        chmod(path + "/deep/size-1", 0o4711)
        mkfifo(path + "/fifo", 0o600)
        chmod(path + "/fifo", 0o622)
        for name in ["same-2", "empty", "deep/er", "link"] {
            let times = [timeval(tv_sec: -86_400, tv_usec: 0), timeval(tv_sec: 1_000_000_000 + name.utf8.count, tv_usec: 0)]
            lutimes(path + "/" + name, times)
        }
        chmod(path + "/empty", 0o555)
    }

    private func lstats(_ path: String) throws -> [String: [Int]] {
        var out: [String: [Int]] = [:]
        for name in [""] + (try FileManager.default.subpathsOfDirectory(atPath: path)) {
            var status = stat()
            try #require(lstat(path + "/" + name, &status) == 0)
            let size = status.st_mode & S_IFMT == S_IFDIR ? 0 : Int(status.st_size)
            out[name] = [Int(status.st_mode), size, Int(status.st_mtim.tv_sec), Int(status.st_uid), Int(status.st_gid)]
        }
        return out
    }

    @Test func whatIsPackedIsExtracted() async throws {
        let scratch = try Scratch()
        let tree = scratch.sub("tree")
        try makeTree(tree)
        var options = PackOptions(directory: tree, output: scratch.sub("a.fl"), stores: [try PackStore(argument: scratch.sub("store"))])
        options.session.tags = [FlistTag(key: "version", value: "1")]
        options.session.workers = 3
        var last = PackProgress()
        let report = try FlistPacker.pack(options) { last = $0 }
        #expect(report.problems == [])
        #expect(last.bytesDone == last.bytesTotal)
        #expect(report.bytes == last.bytesTotal)
        #expect(report.files == Self.sizes.count + 4)

        let flist = try FlistFile(path: scratch.sub("a.fl"))
        #expect(flist.routes == [Route(url: "dir://" + scratch.sub("store"))])
        #expect(flist.tags == [FlistTag(key: "version", value: "1")])
        let summary = try FlistSummary(flist)
        #expect(summary.problems == [])
        #expect(summary.files == report.files)
        #expect(summary.bytes == report.bytes)
        #expect(summary.entries == report.entries)
        #expect(summary.uniqueChunks == report.newChunks)

        var extract = ExtractOptions(destination: scratch.sub("out"))
        extract.setIDs = true
        let source = BlockReader(DirStoreSource(routes: flist.routes))
        let extracted = try await FlistExtractor.extract(flist, extract) { try await source.plainBlock($0) }
        #expect(extracted.problems == [])
        #expect(extracted.files == report.files)
        #expect(try lstats(scratch.sub("out")) == lstats(tree))
        for name in try FileManager.default.subpathsOfDirectory(atPath: tree) where try lstats(tree)[name]![0] & Int(S_IFMT) == Int(S_IFREG)
        {
            #expect(
                FileManager.default.contents(atPath: tree + "/" + name)
                    == FileManager.default.contents(atPath: scratch.sub("out") + "/" + name))
        }
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: scratch.sub("out/link")) == "deep/er/../size-1")
        // A part of it: one file, a sub-directory; set-id bits only on request.
        var file = ExtractOptions(destination: scratch.sub("one"))
        file.path = Array("/link".utf8)
        #expect(try await FlistExtractor.extract(flist, file) { try await source.plainBlock($0) }.problems == [])
        var status = stat()
        #expect(lstat(scratch.sub("one"), &status) == 0 && status.st_mode == S_IFREG | 0o711 && status.st_size == 1)
        var part = ExtractOptions(destination: scratch.sub("part"))
        part.path = Array("deep/er/".utf8)
        #expect(try await FlistExtractor.extract(flist, part) { try await source.plainBlock($0) }.files == 1)
        #expect(FileManager.default.fileExists(atPath: scratch.sub("part/same-1")))
        // A second time nothing is overwritten.
        let again = try await FlistExtractor.extract(flist, extract) { try await source.plainBlock($0) }
        #expect(again.files == 0 && again.problems == [])
        #expect(again.kept == report.files + 3)
    }

    @Test func theSameTreeGivesTheSameFlist() throws {
        let scratch = try Scratch()
        try makeTree(scratch.sub("tree"))
        var outputs: [Data?] = []
        for (n, workers) in [1, 4, 2].enumerated() {
            var options = PackOptions(
                directory: scratch.sub("tree"), output: scratch.sub("\(n).fl"), stores: [try PackStore(argument: scratch.sub("store"))])
            options.session.workers = workers
            let report = try FlistPacker.pack(options)
            #expect(n == 0 || report.newChunks == 0)
            outputs.append(FileManager.default.contents(atPath: scratch.sub("\(n).fl")))
        }
        #expect(outputs[0] != nil)
        #expect(outputs[0] == outputs[1])
        #expect(outputs[0] == outputs[2])
    }

    @Test func aTreeDeeperThanAPathIsPackedAndExtracted() async throws {
        let scratch = try Scratch()
        let name = String(repeating: "d", count: 200)
        let make = Process()
        make.executableURL = URL(fileURLWithPath: "/bin/sh")
        make.arguments = [
            "-c", "mkdir \"$0\"; cd \"$0\"; for i in $(seq 40); do mkdir \(name); cd -P ./\(name) || exit 1; done; echo bottom > f",
            scratch.sub("tree"),
        ]
        try make.run()
        make.waitUntilExit()
        try #require(make.terminationStatus == 0)
        let report = try FlistPacker.pack(
            PackOptions(
                directory: scratch.sub("tree"), output: scratch.sub("a.fl"), stores: [try PackStore(argument: scratch.sub("store"))]))
        #expect(report.problems == [])
        #expect(report.files == 1)
        let flist = try FlistFile(path: scratch.sub("a.fl"))
        let extracted = try await FlistExtractor.extract(
            flist, ExtractOptions(destination: scratch.sub("out")), blocks: reader(store: scratch.sub("store")))
        #expect(extracted.problems == [])
        #expect(extracted.files == 1)
        #expect(extracted.directories == 40)
    }

    @Test func entriesThatCannotBeReadAreNamedAndTheRestIsPacked() throws {
        let scratch = try Scratch()
        try makeTree(scratch.sub("tree"))
        let tree = scratch.sub("tree")
        var grown = false
        let options = PackOptions(directory: tree, output: scratch.sub("a.fl"), stores: [try PackStore(argument: scratch.sub("store"))])
        let report = try FlistPacker.pack(options) { progress in
            guard !grown, progress.entries > 0 else { return }
            grown = true
            // After the listing of the root: gone, and no longer a file.
            unlink(tree + "/same-2")
            unlink(tree + "/hard")
            mkdir(tree + "/hard", 0o755)
        }
        #expect(report.problems.count == 1)
        #expect(report.problems.allSatisfy { $0.contains("same-2") })
        #expect(report.files == Self.sizes.count + 2)
        #expect(try FlistSummary(FlistFile(path: scratch.sub("a.fl"))).problems == [])
    }

    @Test(arguments: [(600_000, "shorter", 600_000), (2_000_000, "longer", 1_200_000)])
    func aFileThatChangesIsPackedAsItWasRead(newSize: Int, word: String, packed: UInt64) async throws {
        let scratch = try Scratch()
        let file = scratch.sub("tree/file")
        try FileManager.default.createDirectory(atPath: scratch.sub("tree"), withIntermediateDirectories: true)
        try bytes(1_200_000, seed: 3).write(to: URL(fileURLWithPath: file))
        let options = PackOptions(
            directory: scratch.sub("tree"), output: scratch.sub("a.fl"), stores: [try PackStore(argument: scratch.sub("store"))])
        let report = try FlistPacker.pack(options) { if $0.bytesDone == 524_288 { truncate(file, newSize) } }
        #expect(report.problems.count == 1)
        #expect(report.problems.first?.contains(word) == true)
        let flist = try FlistFile(path: scratch.sub("a.fl"))
        #expect(try flist.resolve(Array("file".utf8)).size == packed)
        #expect(try await FlistVerifier.verify(flist, source: DirStoreSource([DirStore(path: scratch.sub("store"))])).isComplete)
    }

    @Test func aRunThatIsStoppedLeavesNoFlist() throws {
        let scratch = try Scratch()
        try makeTree(scratch.sub("tree"))
        let options = PackOptions(
            directory: scratch.sub("tree"), output: scratch.sub("a.fl"), stores: [try PackStore(argument: scratch.sub("store"))])
        #expect(throws: CancellationError.self) {
            try FlistPacker.pack(options) { if $0.bytesDone > 100_000 { throw CancellationError() } }
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.hasPrefix("a.fl") } == ["a.fl.resume"])
    }

    @Test func storesAreSplitByRangeAndMustCoverAllIds() async throws {
        let scratch = try Scratch()
        try makeTree(scratch.sub("tree"))
        let low = try PackStore(argument: "00-7f=" + scratch.sub("low"))
        var options = PackOptions(directory: scratch.sub("tree"), output: scratch.sub("a.fl"), stores: [low])
        #expect(throws: ToolError("no store for chunks whose id starts with 80")) { try FlistPacker.pack(options) }
        options.session.stores.append(try PackStore(argument: "80-ff=dir://" + scratch.sub("hi gh")))
        _ = try FlistPacker.pack(options)
        let flist = try FlistFile(path: scratch.sub("a.fl"))
        #expect(flist.routes.map(\.range.firstBytes) == [0...0x7f, 0x80...0xff])
        let report = try await FlistVerifier.verify(flist, source: DirStoreSource(routes: flist.routes))
        #expect(report.isComplete)
        let half = try await FlistVerifier.verify(flist, source: DirStoreSource([DirStore(path: scratch.sub("low"))]))
        #expect(half.missing.count + half.goodChunks == half.chunks)
        #expect(half.missing.allSatisfy { $0.firstByte >= 0x80 })
    }

    @Test func recordedUrlsHaveNoPasswords() throws {
        let scratch = try Scratch()
        try FileManager.default.createDirectory(atPath: scratch.sub("tree"), withIntermediateDirectories: true)
        let sink = DirStore(path: scratch.sub("store"))
        let urls = [
            "zdb://user:secret@host:9900/ns", "zdb://:secret@host/ns", "http://host/a:b@c", "s3://id:secret@h:1/b?region=x",
            "server://http://h/?token=secret&a=b",
        ]
        var options = PackOptions(
            directory: scratch.sub("tree"), output: scratch.sub("a.fl"), stores: urls.map { PackStore(url: $0, sink: sink) })
        _ = try FlistPacker.pack(options)
        #expect(
            try FlistFile(path: scratch.sub("a.fl")).routes.map(\.url)
                == ["zdb://user@host:9900/ns", "zdb://host/ns", "http://host/a:b@c", "s3://h:1/b?region=x", "server://http://h/?a=b"])
        options.session.keepPasswords = true
        _ = try FlistPacker.pack(options)
        #expect(try FlistFile(path: scratch.sub("a.fl")).routes.map(\.url) == urls)
    }
}
