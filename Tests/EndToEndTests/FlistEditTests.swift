import Foundation
import Testing

/// `flist diff`, `merge`, `tags`, `routes`, `inspect` and `convert`, as scripts use them.
@Suite(.serialized) struct FlistEditTests {
    private func write(_ text: String, _ path: String) throws {
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try text.write(toFile: path, atomically: true, encoding: .utf8)
    }

    private func pack(_ bench: Bench, _ name: String, _ files: [String: String], _ more: String...) async throws -> String {
        for (path, text) in files { try write(text, bench.sub("\(name)/\(path)")) }
        let packed = try await bench.run(
            "chunkmesh", ["flist", "pack", bench.sub(name), "-o", bench.sub(name + ".fl"), "--store", bench.sub("store")] + more)
        #expect(packed.status == 0, "\(packed.errors)")
        return bench.sub(name + ".fl")
    }

    @Test func diffTellsEntriesAndWhatIsToPull() async throws {
        try await withBench { bench in
            let a = try await pack(bench, "a", ["f": "one", "d/g": "two"])
            let b = try await pack(bench, "b", ["f": "three", "d/g": "two", "d/new\nline": "four"])
            let shown = try await bench.alone("flist", "diff", a, b, "--ignore-times")
            #expect(shown.status == 0)
            #expect(shown.lines.contains("~ /f: size 3 to 5, content") && shown.lines.contains("+ \"/d/new\\nline\""))
            #expect(shown.lines.last?.hasPrefix("to pull: 2 chunks, 9 B of content; ") == true)
            let json = try await bench.alone("flist", "diff", a, b, "--ignore-times", "--json", "--exit-code")
            #expect(json.status == 1)
            let document = try json.json()
            #expect(document.int("added") == 1 && document.int("changed") == 1 && document.int("removed") == 0)
            #expect(
                document.int("toPull.chunks") == 2 && document.int("toPull.plainBytes") == 9
                    && document.int("toPull.storedBytesOfChunks") == 2)
            #expect(document.list("changes").map { $0.text("path") } == ["/d/new\nline", "/f"])
            #expect(try await bench.alone("flist", "diff", a, a, "--exit-code").status == 0)
            #expect(try await bench.alone("flist", "diff", a, bench.sub("none.fl")).status == 1)
            #expect(try await bench.alone("flist", "diff", a).status == 2)
        }
    }

    @Test func aMergedFlistUnpacksAndItsTagsAndRoutesChange() async throws {
        try await withBench { bench in
            let a = try await pack(bench, "a", ["f": "one", "d/g": "two"], "--tag", "k=a")
            let b = try await pack(bench, "b", ["f": "three", "e/h": "four"], "--tag", "k=b")
            let merged = bench.sub("m.fl")
            let report = try await bench.alone("flist", "merge", a, b, "-o", merged, "--json").json()
            #expect(report.int("files") == 3 && report.int("routes") == 1 && report.int("problems") == 0)
            #expect(try await bench.alone("flist", "unpack", merged, bench.sub("out")).status == 0)
            #expect(try String(contentsOfFile: bench.sub("out/f"), encoding: .utf8) == "three")
            #expect(try String(contentsOfFile: bench.sub("out/d/g"), encoding: .utf8) == "two")

            try write("", merged + ".minisig")
            let tagged = try await bench.alone("flist", "tags", merged, "set", "k=c", "version=1=2")
            #expect(tagged.status == 0 && tagged.errors.contains("sign the flist again"))
            #expect(try await bench.alone("flist", "tags", merged).lines == ["k = c", "version = 1=2"])
            #expect(try await bench.alone("flist", "tags", merged, "remove", "k", "-o", bench.sub("n.fl")).status == 0)
            #expect(
                try await bench.alone("flist", "tags", bench.sub("n.fl"), "--json").json().list("tags").map { $0.text("key") } == [
                    "version"
                ])
            #expect(try await bench.alone("flist", "tags", merged).lines.count == 2)
            #expect(try await bench.alone("flist", "tags", merged, "remove", "none").status == 1)
            for wrong in [["set", "novalue"], ["drop", "k"], ["set"], ["set", "codec=zstd"], ["remove", "codec"]] {
                #expect(try await bench.run("chunkmesh", ["flist", "tags", merged] + wrong).status == 2, "\(wrong)")
            }

            #expect(try await bench.alone("flist", "routes", merged, "add", "00-7f=zdb://:secret@host:9900/ns").status == 0)
            let routes = try await bench.alone("flist", "routes", merged, "--json").json().list("routes")
            #expect(routes.map { $0.text("url") } == ["dir://" + bench.sub("store"), "zdb://host:9900/ns"])
            #expect(routes[1].int("start") == 0 && routes[1].int("end") == 127 && routes[1].text("range") == "00-7f")
            #expect(try await bench.alone("flist", "routes", merged, "remove", "dir://" + bench.sub("store")).status == 0)
            #expect(try await bench.alone("flist", "routes", merged).lines == ["00-7f zdb://host:9900/ns"])
            #expect(try await bench.alone("flist", "routes", merged, "clear").status == 0)
            #expect(try await bench.alone("flist", "routes", merged).text == "")
            #expect(try await bench.alone("flist", "routes", merged, "add", "nothing").status == 1)

            let legacy = try Fixtures.path("legacy/rich.flist")
            let refused = try await bench.alone("flist", "tags", legacy, "set", "a=b", "-o", bench.sub("l.fl"))
            #expect(refused.status == 1 && refused.errors.contains("flist convert") && refused.errorLines.count == 1)
        }
    }

    @Test func inspectShowsEntriesAndChunks() async throws {
        try await withBench { bench in
            let flist = try await pack(bench, "a", ["f": "same", "g": "same", "d/h": "other"])
            let document = try await bench.alone("flist", "inspect", flist, "--tree", "--chunks", "--json").json()
            document.expect("path", "entries", "files", "directories", "bytes", "uniqueChunks", "routes[0].url", "notes", "problems")
            #expect(document.text("format") == "fl" && document.int("blocks") == 3 && document.int("uniqueChunks") == 2)
            #expect(document.int("uniqueBytes") == 9 && document.int("sharedBytes") == 4)
            #expect(document.list("tree").map { $0.text("path") } == ["/f", "/g", "/d", "/d/h"])
            #expect(document.list("chunks").count == 2 && document.list("chunks").map { $0.int("plainBytes") }.reduce(0, +) == 9)
            let shown = try await bench.alone("flist", "inspect", flist, "--tree")
            #expect(shown.status == 0 && shown.lines.contains { $0.hasPrefix("-0644 ") && $0.hasSuffix(" /d/h") })
            let legacy = try await bench.alone("flist", "inspect", Fixtures.path("legacy/rich-router.flist"), "--json").json()
            #expect(legacy.text("format") == "legacy" && legacy.list("codecs").count == 1 && legacy.int("routes[0].tier") >= 0)
        }
    }

    @Test func anImageBecomesAnFlistThatUnpacks() async throws {
        try await withBench { bench in
            let image = bench.sub("image.tar")
            let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Support/make_image.py").path
            try write(
                """
                {"name": "thing:1", "config": {"Cmd": ["sh"]}, "layers": [
                  {"compress": "zstd", "entries": [{"name": "bin/sh", "data": "shell", "mode": 493}, {"name": "etc/old", "data": "old"},
                                {"name": "lib", "type": "symlink", "target": "usr/lib"}]},
                  {"compress": "gzip", "entries": [{"name": "etc/.wh.old"}, {"name": "etc/new", "type": "hardlink", "target": "etc/first"}]},
                  {"entries": [{"name": "etc/x", "data": "x"}, {"name": "etc/y", "type": "hardlink", "target": "etc/x"}]}]}
                """, bench.sub("image.json"))
            let made = try await bench.run(
                "/bin/sh", ["-c", "exec python3 \"$0\" docker-oci \"$1\" < \"$2\"", script, image, bench.sub("image.json")])
            #expect(made.status == 0, "\(made.errors)")
            let converted = try await bench.run(
                "chunkmesh", ["flist", "convert", image, "-o", bench.sub("i.fl"), "--store", bench.sub("store"), "--json"])
            // One entry is no good: it is named, and the rest is there.
            #expect(converted.status == 1 && converted.errorLines.count == 1 && converted.errors.contains("etc/new"))
            let report = try converted.json()
            #expect(
                report.text("image") == "thing:1" && report.int("layers") == 3 && report.int("files") == 3 && report.int("problems") == 1)
            #expect(converted.text.contains(#""image.cmd":"[\"sh\"]""#))
            let unpacked = try await bench.alone("flist", "unpack", bench.sub("i.fl"), bench.sub("out"))
            #expect(unpacked.status == 0, "\(unpacked.errors)")
            #expect(try String(contentsOfFile: bench.sub("out/etc/y"), encoding: .utf8) == "x")
            #expect(try FileManager.default.contentsOfDirectory(atPath: bench.sub("out/etc")).sorted() == ["x", "y"])
            #expect(try FileManager.default.destinationOfSymbolicLink(atPath: bench.sub("out/lib")) == "usr/lib")
            for (arguments, status, words) in [
                ([image, "-o", bench.sub("j.fl"), "--store", bench.sub("store"), "--image", "other"], 1, "thing:1"),
                ([image, "-o", bench.sub("j.fl"), "--store", bench.sub("store"), "--platform", "linux"], 2, "platform"),
                ([image, "-o", bench.sub("j.fl")], 2, "store"),
                ([bench.sub("image.json"), "-o", bench.sub("j.fl"), "--store", bench.sub("store")], 1, "image.json"),
            ] as [([String], Int32, String)] {
                let refused = try await bench.run("chunkmesh", ["flist", "convert"] + arguments)
                #expect(refused.status == status && refused.errors.contains(words), "\(arguments): \(refused.errors)")
            }
            #expect(!FileManager.default.fileExists(atPath: bench.sub("j.fl")))
        }
    }
}
