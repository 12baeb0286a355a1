import Foundation
import Testing

/// What goes wrong ends in one clear line on stderr and the right exit status.
@Suite(.serialized) struct ErrorTests {
    /// Exit status, nothing on stdout, and one line on stderr that holds `words`.
    private func expect(
        _ outcome: Outcome, _ status: Int32, _ words: String..., at place: SourceLocation = #_sourceLocation
    ) {
        #expect(outcome.status == status, "\(outcome.errors)", sourceLocation: place)
        #expect(outcome.text == "", sourceLocation: place)
        #expect(outcome.errorLines.count == 1, "\(outcome.errors)", sourceLocation: place)
        for word in words { #expect(outcome.errors.contains(word), "\(outcome.errors) lacks \(word)", sourceLocation: place) }
    }

    @Test func theDaemonDoesNotRun() async throws {
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 1, bytes: 10, route: "dir:///nowhere")
            let socket = bench.sub("no.sock")
            for arguments in [
                ["prefetch", flist], ["status"], ["stats"], ["peers"], ["ls", flist + ":/"], ["stat", flist + ":/"],
                ["cat", flist + ":/x"],
                ["get", "image:/x", bench.sub("x")], ["pin", flist], ["unpin", "image"], ["forget", "image"], ["cache", "verify"],
                ["cache", "gc"], ["flist", "verify", flist, "--on", "node"],
            ] {
                for json in [[], ["--json"]] {
                    let outcome = try await bench.run("chunkmesh", arguments + json + ["--api", "unix:" + socket])
                    expect(outcome, 1, socket, "chunkmeshd")
                }
            }
            expect(try await bench.run("chunkmesh", ["stats", "--api", "http://127.0.0.1:1"]), 1, "127.0.0.1:1")
        }
    }

    @Test func wrongUsage() async throws {
        try await withBench { bench in
            for arguments in [
                ["nonsense"], ["prefetch"], ["prefetch", "x", "--scope", "galaxy"], ["prefetch", "x", "--copies", "0"],
                ["prefetch", "x", "--copies", "many"], ["prefetch", "x", "--copies", "2", "--scope", "node"],
                ["prefetch", "x", "--path", "*"],
                ["cat", "x:/y", "--offset", "-1"], ["get", "x:/y"], ["flist", "pack", "/tmp"], ["flist", "verify", "x", "--on", "moon"],
                ["hub", "serve", "/tmp", "--listen", "here"], ["stats", "--api", "ftp://x"], ["stats", "--bogus"], ["key", "make"],
            ] {
                let outcome = try await bench.run("chunkmesh", arguments)
                #expect(outcome.status == 2, "\(arguments): \(outcome.status) \(outcome.errors)")
                #expect(outcome.text == "" && !outcome.errors.isEmpty, "\(arguments): \(outcome.text)")
            }
            let outcome = try await bench.run("chunkmeshd", ["--bogus"])
            #expect(outcome.status == 2 && outcome.text == "", "\(outcome.status) \(outcome.errors)")
        }
    }

    @Test func whatIsNotThere() async throws {
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 1, bytes: 10, route: "dir:///nowhere")
            let daemon = try await bench.daemon()
            for arguments in [["prefetch"], ["pin"], ["unpin"], ["forget"], ["status"]] {
                expect(try await bench.run("chunkmesh", arguments + ["unheard-of", "--api", "unix:" + daemon.socket]), 1, "unheard-of")
            }
            expect(try await daemon.chunkmesh("ls", "unheard-of:/"), 1, "unheard-of")
            expect(try await daemon.chunkmesh("prefetch", "/no/such/file.fl"), 1, "/no/such/file.fl")
            expect(try await daemon.chunkmesh("prefetch", "http://127.0.0.1:1/x.fl"), 1, "127.0.0.1:1")
            for command in ["ls", "stat", "cat"] {
                expect(try await daemon.chunkmesh(command, flist + ":/no-such-file"), 1, "no-such-file")
            }
            expect(try await daemon.chunkmesh("cat", flist + ":/"), 1, "/ is not a regular file")
            expect(try await daemon.chunkmesh("get", flist + ":/no-such-file", bench.sub("x")), 1, "no-such-file")
            #expect(!FileManager.default.fileExists(atPath: bench.sub("x")))
            expect(try await bench.alone("flist", "inspect", "/no/such/file.fl"), 1, "/no/such/file.fl")
            expect(
                try await bench.run(
                    "chunkmesh", ["flist", "pack", "/no/such/dir", "-o", bench.sub("o.fl"), "--store", "dir://" + bench.sub("hub")]), 1,
                "/no/such/dir")
            expect(try await bench.run("chunkmesh", ["hub", "serve", "/no/such/dir", "--listen", "127.0.0.1:0"]), 1, "/no/such/dir")
            // A hub that has never heard of the chunk, and one that is not there.
            expect(try await daemon.chunkmesh("cat", flist + ":/file-0"), 1, "chunk")
            #expect(daemon.program.isRunning)
        }
    }

    @Test func portsInUse() async throws {
        try await withBench { bench in
            let running = try await bench.daemon("n1")
            let mesh = try Daemon(
                bench: bench, name: "n2", key: nil, seeds: [], settings: ["mesh.listen": "127.0.0.1:\(running.meshPort)"])
            expectEnd(try await bench.run("chunkmeshd", ["--config", mesh.configuration]), "\(running.meshPort)")
            let api = try Daemon(bench: bench, name: "n3", key: nil, seeds: [], settings: ["api.listen": "127.0.0.1:\(running.apiPort)"])
            expectEnd(try await bench.run("chunkmeshd", ["--config", api.configuration]), "\(running.apiPort)", "api.listen")
            let hub = Ports.free()
            try await bench.hub(port: hub)
            let second = try await bench.run("chunkmesh", ["hub", "serve", bench.sub("hub"), "--listen", "127.0.0.1:\(hub)"])
            #expect(second.status == 1 && second.errors.contains("\(hub)"), "\(second.errors)")
            #expect(try await running.json("stats").text("name") == "n1")
        }
    }

    /// The daemon ends with status 1 and, beside its log, one line of its own.
    private func expectEnd(_ outcome: Outcome, _ words: String..., at place: SourceLocation = #_sourceLocation) {
        #expect(outcome.status == 1, "\(outcome.errors)", sourceLocation: place)
        let lines = outcome.errorLines.filter { $0.hasPrefix("chunkmeshd: ") }
        #expect(lines.count == 1, "\(outcome.errors)", sourceLocation: place)
        for word in words { #expect(lines.first?.contains(word) == true, "\(outcome.errors) lacks \(word)", sourceLocation: place) }
    }

    @Test func cacheDirectories() async throws {
        try await withBench { bench in
            let running = try await bench.daemon("n1")
            let second = try Daemon(bench: bench, name: "n2", key: nil, seeds: [], settings: ["cache.dir": running.cache])
            expectEnd(try await bench.run("chunkmeshd", ["--config", second.configuration]), running.cache)
            try bench.write([], to: bench.sub("file"), mode: 0o600)
            let below = try Daemon(bench: bench, name: "n3", key: nil, seeds: [], settings: ["cache.dir": bench.sub("file/cache")])
            expectEnd(try await bench.run("chunkmeshd", ["--config", below.configuration]), bench.sub("file"))
            #expect(try await running.json("stats").text("name") == "n1")

            let readOnly = try Daemon(bench: bench, name: "n4", key: nil, seeds: [], settings: [:])
            try FileManager.default.createDirectory(atPath: readOnly.cache, withIntermediateDirectories: true)
            var arguments = [Program.folder + "/chunkmeshd", "--config", readOnly.configuration]
            if getuid() == 0 {
                // Root may write anywhere but on a file system that is mounted read-only.
                let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\""
                guard try await bench.run("/usr/bin/unshare", ["-m", "sh", "-c", mount, readOnly.cache]).status == 0 else { return }
                arguments = ["/usr/bin/unshare", "-m", "sh", "-c", mount + " && exec \"$@\"", readOnly.cache] + arguments
            } else {
                chmod(readOnly.cache, 0o555)
            }
            expectEnd(try await bench.run(arguments[0], Array(arguments.dropFirst())), readOnly.cache)
        }
    }

    @Test func configurationsAndKeys() async throws {
        try await withBench { bench in
            func end(_ yaml: String, _ words: String..., at place: SourceLocation = #_sourceLocation) async throws {
                let file = bench.sub("bad.yaml")
                try yaml.write(toFile: file, atomically: true, encoding: .utf8)
                let outcome = try await bench.run("chunkmeshd", ["--config", file])
                #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome.status) \(outcome.errors)", sourceLocation: place)
                for word in words { #expect(outcome.errors.contains(word), "\(outcome.errors) lacks \(word)", sourceLocation: place) }
            }
            let cache = "cache:\n  dir: \(bench.sub("c"))\n"
            try await end(cache + "  colour: red\n", "bad.yaml:3", "colour")
            try await end(cache + "mesh:\n  listen: nonsense\n", "bad.yaml:4")
            try await end(cache + "  maxSize: lots\n", "bad.yaml:3", "size")
            try await end(cache + "node: [\n", "bad.yaml")
            expectEnd(try await bench.run("chunkmeshd", ["--config", bench.sub("none.yaml")]), "none.yaml")

            let key = bench.sub("mesh.key")
            let withKey = cache + "mesh:\n  keyFile: \(key)\n"
            try await end(withKey, key)
            try bench.write(try await bench.run("chunkmesh", ["key", "generate"]).bytes, to: key, mode: 0o644)
            try await end(withKey, key, "chmod")
            for text in ["this is no key\n", "c2hvcnQ=\n", "# nothing\n"] {
                try bench.write(Array(text.utf8), to: key, mode: 0o600)
                try await end(withKey, key, "chunkmesh key generate")
            }
            #expect(!FileManager.default.fileExists(atPath: bench.sub("c/api.sock")))
        }
    }
}
