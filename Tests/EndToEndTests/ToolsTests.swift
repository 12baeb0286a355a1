import Foundation
import Testing

/// `flist pack`, `unpack` and `clone` as programs that are interrupted and killed.
@Suite(.serialized) struct ToolsTests {
    /// 40 MB of files that the debug build needs a while for.
    private func tree(_ bench: Bench) throws -> String {
        let tree = bench.sub("tree")
        try FileManager.default.createDirectory(atPath: tree, withIntermediateDirectories: true)
        for number in 0..<20 {
            let words = (0..<262_144).map { _ in UInt64.random(in: 0 ... .max) }
            try words.withUnsafeBytes { Data($0) }.write(to: URL(fileURLWithPath: "\(tree)/file-\(number)"))
        }
        return tree
    }

    private func same(_ bench: Bench, _ tree: String, _ other: String) async throws {
        let diff = try await bench.run("/usr/bin/diff", ["-r", tree, other])
        #expect(diff.status == 0 && diff.text.isEmpty, "\(diff.text.prefix(500))")
    }

    @Test(arguments: [SIGINT, SIGKILL])
    func packGoesOnAfterASignal(signal: Int32) async throws {
        try await withBench { bench in
            let tree = try tree(bench)
            let (flist, store) = (bench.sub("a.fl"), bench.sub("store"))
            let arguments = ["flist", "pack", tree, "-o", flist, "--store", store, "--json"]
            let first = try bench.start("chunkmesh", arguments)
            try await eventually("some chunks are stored") { try bench.storedChunks(store) >= 10 || !first.isRunning }
            first.signal(signal)
            let ended = await first.outcome()
            let before = try bench.storedChunks(store)
            guard ended.status != 0 else { return }  // It was quicker.
            #expect(ended.status == (signal == SIGINT ? 130 : 137), "\(ended.errors)")
            #expect(!FileManager.default.fileExists(atPath: flist))
            let second = try await bench.run("chunkmesh", arguments)
            #expect(second.status == 0, "\(second.errors)")
            let report = try second.json()
            #expect(report.int("files") == 20 && report.int("blocks") == 80 && report.int("newChunks") == 80 - before)
            let names = try FileManager.default.contentsOfDirectory(atPath: bench.path).filter { $0.hasPrefix("a.fl") }
            #expect(names == ["a.fl"])
            let verified = try await bench.alone("flist", "verify", flist)
            #expect(verified.status == 0 && verified.text.hasPrefix("80 of 80 chunks"), "\(verified.errors)")
        }
    }

    @Test(arguments: [SIGINT, SIGKILL])
    func unpackGoesOnAfterASignal(signal: Int32) async throws {
        try await withBench { bench in
            let tree = try tree(bench)
            let (flist, out) = (bench.sub("a.fl"), bench.sub("out"))
            #expect(try await bench.run("chunkmesh", ["flist", "pack", tree, "-o", flist, "--store", bench.sub("store")]).status == 0)
            let arguments = ["flist", "unpack", flist, out, "--api", "unix:\(bench.sub("no.sock"))"]
            let first = try bench.start("chunkmesh", arguments)
            try await eventually("some files are there") {
                ((try? FileManager.default.contentsOfDirectory(atPath: out)) ?? []).count >= 4 || !first.isRunning
            }
            first.signal(signal)
            let ended = await first.outcome()
            guard ended.status != 0 else { return }
            #expect(ended.status == (signal == SIGINT ? 130 : 137), "\(ended.errors)")
            // Under their own names there are whole files only.
            for name in try FileManager.default.contentsOfDirectory(atPath: out) where name.hasPrefix("file-") {
                #expect(FileManager.default.contentsEqual(atPath: "\(out)/\(name)", andPath: "\(tree)/\(name)"), "\(name)")
            }
            let second = try await bench.run("chunkmesh", arguments)
            #expect(second.status == 0, "\(second.errors)")
            try await same(bench, tree, out)
        }
    }

    @Test func cloneAndVerify() async throws {
        try await withBench { bench in
            let (flist, tree) = try await bench.pack(files: 6, bytes: 300_000, route: "dir://" + bench.sub("hub"))
            let copy = bench.sub("copy.fl")
            let cloned = try await bench.alone(
                "flist", "clone", flist, "--to", "00-7f=" + bench.sub("low"), "--to", "80-ff=dir://" + bench.sub("high"), "-o", copy,
                "--json")
            #expect(cloned.status == 0, "\(cloned.errors)")
            let report = try cloned.json()
            #expect(report.int("chunks") == 6 && report.int("copied") == 6 && report.int("problems") == 0)
            try FileManager.default.removeItem(atPath: bench.sub("hub/image.fl"))
            #expect(try await bench.alone("flist", "unpack", copy, bench.sub("out")).status == 0)
            try await same(bench, tree, bench.sub("out"))
            let chunk = try #require(try (bench.chunkFiles(in: bench.sub("low")) + bench.chunkFiles(in: bench.sub("high"))).first)
            try FileManager.default.removeItem(atPath: chunk)
            let verified = try await bench.alone("flist", "verify", copy, "--json")
            #expect(verified.status == 1)
            let problems = try verified.json()
            #expect(problems.int("good") == 5 && problems.list("problems").count == 1)
            #expect(chunk.hasSuffix(problems.text("problems[0].chunk")) && problems.text("problems[0].file").contains("file-"))
        }
    }
}

extension Bench {
    /// Whole chunks in a directory store, which need not be there.
    fileprivate func storedChunks(_ store: String) throws -> Int {
        FileManager.default.fileExists(atPath: store) ? try chunkFiles(in: store).count : 0
    }
}
