import BlockCodec
import ChunkModel
import Flist
import Foundation
import Testing

@testable import FlistTools

/// Images that Tests/Support/make_image.py makes.
enum TestImage {
    private static func script(_ name: String) -> String {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Support/" + name).path
    }

    /// - Parameter description: JSON, as make_image.py has it.
    static func make(_ description: String, _ format: String, at path: String) throws {
        if format == "oci-dir" { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
        _ = try run(script("make_image.py"), [format, path], input: description)
    }

    /// An image of random layers.
    ///
    /// - Returns: what it unpacks to, as lines of a manifest.
    static func random(seed: Int, _ format: String, at path: String) throws -> [String] {
        if format == "oci-dir" { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
        return try run(script("image_model.py"), ["\(seed)", format, path], input: "").split(separator: "\n").map(String.init)
    }

    private static func run(_ script: String, _ arguments: [String], input: String) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["python3", script] + arguments
        let (standardInput, output) = (Pipe(), Pipe())
        process.standardInput = standardInput
        process.standardOutput = output
        try process.run()
        standardInput.fileHandleForWriting.write(Data(input.utf8))
        try standardInput.fileHandleForWriting.close()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        return text
    }
}

@Suite struct ImageTests {
    private func convert(_ image: String, _ scratch: Scratch, name: String = "out", change: (inout ImageOptions) -> Void = { _ in }) throws
        -> (report: ImageReport, flist: FlistFile)
    {
        var options = ImageOptions(
            image: image,
            session: PackSession.Options(output: scratch.sub(name + ".fl"), stores: [try PackStore(argument: scratch.sub("store"))]))
        change(&options)
        let report = try ImageConverter.convert(options)
        return (report, try FlistFile(path: scratch.sub(name + ".fl")))
    }

    private func message(_ body: () throws -> Void) -> String {
        do { try body() } catch { return "\(error)" }
        return ""
    }

    private func paths(_ flist: FlistFile) throws -> [String] {
        try listing(flist).map { $0.split(separator: " ").prefix(2).joined(separator: " ") }
    }

    /// Whatever the layers are: the tree is the one that a model of its own makes of them.
    @Test(arguments: 0..<30) func randomLayersMakeTheTreeOfTheModel(seed: Int) async throws {
        let scratch = try Scratch()
        let formats = ["docker", "docker-oci", "oci-dir", "oci-tar", "oci-tar.gz"]
        let expected = try TestImage.random(seed: seed, formats[seed % formats.count], at: scratch.sub("image"))
        let (report, flist) = try convert(scratch.sub("image"), scratch)
        #expect(report.problems == [], "seed \(seed)")
        let (lines, problems) = try await FlistManifest.lines(flist, blocks: reader(store: scratch.sub("store")))
        #expect(problems == [], "seed \(seed)")
        #expect(lines == expected, "seed \(seed)")
        #expect(report.entries == expected.count)
        #expect(try await FlistVerifier.verify(flist, source: DirStoreSource(routes: flist.routes)).isComplete)
        // Parents have lower numbers than what is in them, and the same image gives the same bytes.
        var walker = FlistWalker(flist, below: flist.root())
        while case .entry(let visit)? = try walker.next() { #expect(visit.entry.parent < visit.entry.ino) }
        _ = try convert(scratch.sub("image"), scratch, name: "again")
        #expect(
            FileManager.default.contents(atPath: scratch.sub("again.fl")) == FileManager.default.contents(atPath: scratch.sub("out.fl")))
    }

    @Test func whatUpperLayersHideIsNotStored() throws {
        let scratch = try Scratch()
        try TestImage.make(
            """
            {"layers": [
              {"entries": [{"name": "etc", "type": "dir"}, {"name": "etc/a", "data": "one"}, {"name": "etc/b", "data": "two"},
                           {"name": "opt/x/y", "data": "three"}, {"name": "gone/f", "data": "four"}]},
              {"compress": "gzip", "entries": [{"name": "etc/.wh.a"}, {"name": "etc/b", "data": "new"}, {"name": "opt/x/.wh..wh..opq"},
                           {"name": "opt/x/z", "data": "five"}, {"name": ".wh.gone"}, {"name": ".wh..wh.plnk/1.2", "data": "six"}]}]}
            """, "docker-oci", at: scratch.sub("image.tar"))
        let (report, flist) = try convert(scratch.sub("image.tar"), scratch)
        #expect(try paths(flist) == ["/etc dir", "/etc/b file", "/opt dir", "/opt/x dir", "/opt/x/z file"])
        #expect(report.newChunks == 2 && report.blocks == 2 && report.whiteouts == 3 && report.problems == [])
    }

    /// The one case in which a layer is read twice.
    @Test func aHardLinkKeepsWhatItsHiddenTargetHeld() async throws {
        let scratch = try Scratch()
        try TestImage.make(
            """
            {"layers": [
              {"entries": [{"name": "f", "data": "content", "mode": 488, "uid": 7}, {"name": "link", "type": "hardlink", "target": "f"},
                           {"name": "hidden", "type": "hardlink", "target": "link"}, {"name": "second", "type": "hardlink", "target": "hidden"},
                           {"name": "s", "type": "symlink", "target": "f"}, {"name": "s2", "type": "hardlink", "target": "s"},
                           {"name": "lost", "type": "hardlink", "target": "nowhere"}, {"name": "self", "type": "hardlink", "target": "self"}]},
              {"entries": [{"name": "f", "type": "dir"}, {"name": ".wh.hidden"}, {"name": ".wh.s"}]}]}
            """, "docker", at: scratch.sub("image.tar"))
        let (report, flist) = try convert(scratch.sub("image.tar"), scratch)
        #expect(try paths(flist) == ["/f dir", "/link file", "/s2 symlink", "/second file"])
        #expect(
            report.problemCount == 2 && report.problems.contains { $0.hasPrefix("lost: ") }
                && report.problems.contains { $0.hasPrefix("self: ") })
        let blocks = try ["/link", "/second"].map { try flist.blocks(of: flist.resolve(Array($0.utf8))) }
        #expect(blocks[0].count == 1 && blocks[0] == blocks[1])
        let entry = try flist.resolve(Array("/second".utf8))
        #expect(entry.size == 7 && entry.permissions == 0o750 && entry.uid == 7)
        #expect(report.newChunks == 1)
    }

    @Test func aLayerLeadsNowhereByLinksAndOddNames() throws {
        let scratch = try Scratch()
        let long = String(repeating: "n", count: 256)
        try TestImage.make(
            """
            {"layers": [
              {"entries": [{"name": "lib", "type": "symlink", "target": "/tmp"}, {"name": "../up", "data": "x"}, {"name": "a/../../b", "data": "x"},
                           {"name": "/abs", "data": "x"}, {"name": "\(long)", "data": "x"}, {"name": "loop", "type": "symlink", "target": "loop"},
                           {"name": "loop/in", "data": "x"}, {"name": "d", "type": "dir"}, {"name": "d/f", "data": "x"}, {"name": "d", "data": "file"},
                           {"name": ".wh.", "data": ""}, {"name": ".wh..", "data": ""}, {"name": "null", "type": "chr", "rdev": [1, 3]},
                           {"name": "pipe", "type": "fifo", "mode": 384}, {"name": "ping", "data": "x", "mode": 2541, "xattrs": {"security.capability": "x", "user.a": "b"}}]},
              {"entries": [{"name": "lib/evil", "data": "x"}]}]}
            """, "docker", at: scratch.sub("image.tar"))
        let (report, flist) = try convert(scratch.sub("image.tar"), scratch)
        // The upper layer's directory hides the link, which is followed by nobody.
        #expect(
            try paths(flist) == [
                "/abs file", "/d dir", "/d/f file", "/lib dir", "/lib/evil file", "/loop symlink", "/null chrdev", "/ping file",
                "/pipe fifo",
            ])
        #expect(report.problemCount == 7, "\(report.problems)")
        #expect(report.attributes == 1 && report.notes.contains { $0.hasPrefix("ping: ") && $0.contains("security.capability") })
        #expect(!FileManager.default.fileExists(atPath: "/tmp/evil"))
        #expect(try flist.resolve(Array("/ping".utf8)).permissions == 0o4755)
        #expect(try flist.resolve(Array("/null".utf8)).kind == .charDevice(major: 1, minor: 3))
    }

    @Test(arguments: ["layer", "config", "manifest", "diff"]) func whatDoesNotMatchItsDigestIsNoImage(part: String) throws {
        for format in ["docker-oci", "oci-dir", "docker"] {
            // Of old, neither layers nor manifests are named by digests.
            if format == "docker", part == "manifest" { continue }
            let scratch = try Scratch()
            try TestImage.make(
                #"{"break": "\#(part)", "layers": [{"compress": "none", "entries": [{"name": "f", "data": "x"}]}]}"#, format,
                at: scratch.sub("image"))
            let text = message { _ = try convert(scratch.sub("image"), scratch) }
            #expect(text.contains("damaged image"), "\(format): \(text)")
            #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.hasPrefix("out") } == [])
        }
    }

    @Test func theImageAndThePlatformAreChosen() throws {
        let scratch = try Scratch()
        try TestImage.make(
            #"{"name": "docker.io/library/thing:1.2", "nested": true, "platforms": ["linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7"], "layers": [{"entries": [{"name": "f"}]}]}"#,
            "oci-tar", at: scratch.sub("image"))
        func converted(_ change: (inout ImageOptions) -> Void = { _ in }) throws -> ImageReport {
            try convert(scratch.sub("image"), scratch, change: change).report
        }
        let usual = try converted()
        #expect(usual.platform?.hasPrefix(ImagePlatform.here.description) == true)
        for (wanted, got) in [("linux/arm64", "linux/arm64/v8"), ("linux/arm", "linux/arm/v7"), ("linux/arm/v6", "linux/arm/v6")] {
            let report = try converted { $0.platform = ImagePlatform(wanted) }
            #expect(report.platform == got)
        }
        for name in ["thing:1.2", "1.2", "library/thing:1.2", "docker.io/library/thing:1.2"] {
            let report = try converted { $0.name = name }
            #expect(report.name == "docker.io/library/thing:1.2")
        }
        let other = message { _ = try convert(scratch.sub("image"), scratch) { $0.platform = ImagePlatform("linux/s390x") } }
        #expect(other.contains("no image for linux/s390x") && other.contains("linux/arm/v6"))
        let unknown = message { _ = try convert(scratch.sub("image"), scratch) { $0.name = "thin" } }
        #expect(unknown.contains("no image thin") && unknown.contains("docker.io/library/thing:1.2"))
        #expect(ImagePlatform("linux") == nil && ImagePlatform("linux//v8") == nil)
        #expect(ImageIndex.matches("alpine:latest", "alpine") && !ImageIndex.matches("alpine:3", "alpine"))
        // One image alone need not be for this machine.
        try TestImage.make(#"{"platforms": ["linux/mips"], "layers": []}"#, "docker", at: scratch.sub("mips"))
        let (report, flist) = try convert(scratch.sub("mips"), scratch)
        #expect(report.entries == 1 && report.notes.contains { $0.contains("linux/mips") } && flist.root().permissions == 0o755)
    }

    @Test func theConfigurationBecomesTags() throws {
        let scratch = try Scratch()
        try TestImage.make(
            #"""
            {"name": "x:1", "layers": [], "config": {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo \"hi\"\n"], "Env": ["PATH=/bin", "E=é"],
             "WorkingDir": "/srv", "User": "1:2", "ExposedPorts": {"80/tcp": {}, "443/tcp": {}}, "Labels": {"b": "2", "a": "1"}, "Volumes": null}}
            """#, "docker-oci", at: scratch.sub("image"))
        let (_, flist) = try convert(scratch.sub("image"), scratch) {
            $0.session.tags = [FlistTag(key: "version", value: "9"), FlistTag(key: "image.user", value: "me")]
            $0.session.coding = .zstd
        }
        let tags = Dictionary(uniqueKeysWithValues: flist.tags.map { ($0.key, $0.value) })
        #expect(tags["image.entrypoint"] == #"["/bin/sh","-c"]"# && tags["image.cmd"] == #"["echo \"hi\"\n"]"#)
        #expect(tags["image.env"] == #"["PATH=/bin","E=é"]"# && tags["image.workdir"] == "/srv" && tags["image.user"] == "me")
        #expect(tags["image.ports"] == #"["443/tcp","80/tcp"]"# && tags["image.labels"] == #"{"a":"1","b":"2"}"#)
        #expect(tags["image.name"] == "x:1" && tags["image.architecture"] == "amd64" && tags["version"] == "9" && tags["codec"] == "zstd")
        #expect(tags["image.volumes"] == nil && tags["image.stopsignal"] == nil)
    }

    @Test func boundsAndInterruptionsLeaveNoFlist() throws {
        let scratch = try Scratch()
        try TestImage.make(
            #"{"layers": [{"compress": "gzip", "entries": [{"name": "zeros", "data": "0", "times": 3000000}, {"name": "b"}]}, {"entries": [{"name": "c"}]}]}"#,
            "docker-oci", at: scratch.sub("image"))
        let entries = message { _ = try convert(scratch.sub("image"), scratch) { $0.limits.entries = 2 } }
        #expect(entries.contains("members"), "\(entries)")
        let bytes = message { _ = try convert(scratch.sub("image"), scratch) { $0.limits.bytes = 1_000_000 } }
        #expect(bytes.contains("more than"), "\(bytes)")
        let layers = message { _ = try convert(scratch.sub("image"), scratch) { $0.limits.layers = 1 } }
        #expect(layers.contains("2 layers"), "\(layers)")
        var options = ImageOptions(
            image: scratch.sub("image"),
            session: PackSession.Options(output: scratch.sub("out.fl"), stores: [try PackStore(argument: scratch.sub("store"))]))
        #expect(throws: CancellationError.self) {
            try ImageConverter.convert(options) { if $0.bytesDone > 1000 { throw CancellationError() } }
        }
        options.image = scratch.sub("none")
        let missing = message { _ = try ImageConverter.convert(options) }
        #expect(missing.contains("No such file"), "\(missing)")
        for text in ["", "hello", "{}"] {
            try Data(text.utf8).write(to: URL(fileURLWithPath: scratch.sub("none")))
            let refused = message { _ = try ImageConverter.convert(options) }
            #expect(refused != "")
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.hasPrefix("out") } == [])
    }

    @Test(arguments: [
        "[1,2.5,-3e7,true,false,null]", #"{"a":{"b":["x","é\n"]}}"#, "\"\"", "[]", "{}",
    ]) func jsonIsReadAndWritten(text: String) {
        #expect(JSONText(Array(text.utf8))?.text == text.replacingOccurrences(of: "é\n", with: "é\\n"))
    }

    @Test(arguments: [
        "", "[", "[1,]", "{\"a\"}", "tru", "01x", "1.", "\"\\x\"", "\"\u{1}\"", "[1] 2", "{1:2}", "-", "nul", "\"abc", "[1 2]",
    ]) func whatIsNoJSONIsRefused(text: String) {
        #expect(JSONText(Array(text.utf8)) == nil)
    }

    @Test func jsonIsBounded() {
        #expect(JSONText([UInt8](repeating: UInt8(ascii: "["), count: 1 << 20)) == nil)
        #expect(JSONText([0x22, 0xff, 0x22]) == nil)
        #expect(JSONText(Array(#""\ud83d\ude00\u00e9\ud83d""#.utf8))?.string == "😀é\u{fffd}")
        #expect(JSONText(Array(#"{"a":1,"a":2}"#.utf8))?["a"]?.integer == 2)
    }
}
