import Foundation
import Testing

/// Flists that are none, damaged or hostile.
@Suite(.serialized) struct MalformedTests {
    /// Memory that a daemon may hold after all of them.
    static let maxMemory = 300 << 20

    @Test func inspectRefusesInOneLine() async throws {
        try await withBench { bench in
            let refused = try Fixtures.expectations().filter { $0.kind == "reject" && !$0.file.hasPrefix("route-") }
            #expect(refused.count >= 9)
            for expectation in refused {
                let outcome = try await bench.alone("flist", "inspect", Fixtures.path("malformed/" + expectation.file), "--json")
                #expect(outcome.status == 1 && outcome.text == "", "\(expectation.file)")
                #expect(outcome.errorLines.count == 1 && outcome.errors.contains(expectation.file), "\(outcome.errors)")
            }
        }
    }

    /// The daemon is given every one of them; it refuses or holds what can be had, and lives.
    @Test func theDaemonSurvivesAllOfThem() async throws {
        try await withBench { bench in
            let daemon = try await bench.daemon(
                settings: ["upstream.urls": "[\"dir://\(try Fixtures.path("malformed/store"))\"]", "upstream.override": "true"])
            for expectation in try Fixtures.expectations() {
                let file = try Fixtures.path("malformed/" + expectation.file)
                let outcome = try await daemon.chunkmesh("prefetch", file, "--scope", "node")
                if expectation.kind == "reject", !expectation.file.hasPrefix("route-") {
                    #expect(outcome.status == 1 && outcome.text == "", "\(expectation.file)")
                    #expect(outcome.errorLines.count == 1 && outcome.errors.contains(expectation.file), "\(outcome.errors)")
                } else if expectation.kind == "accept", expectation.store == "store" {
                    #expect(outcome.status == 0, "\(expectation.file): \(outcome.errors)")
                } else {
                    #expect(outcome.errorLines.count <= 1, "\(expectation.file): \(outcome.errors)")
                }
                #expect(!outcome.errors.contains("\u{1b}") && !outcome.text.contains("\u{1b}"))
                #expect(daemon.program.isRunning, "\(expectation.file)")
            }
            #expect(daemon.memory > 0 && daemon.memory < Self.maxMemory, "\(daemon.memory >> 20) MiB")
            #expect(try await daemon.get("/readyz").text == "ready\n")
            // A good one still works.
            #expect(try await daemon.json("prefetch", Fixtures.path("malformed/mini.fl"), "--scope", "node").text("state") == "done")
        }
    }

    /// No route, or none that can be used: the listing works, content is refused.
    @Test(arguments: ["route-none.fl", "route-unsupported.fl"]) func unusableRoutes(file: String) async throws {
        try await withBench { bench in
            let daemon = try await bench.daemon()
            let path = try Fixtures.path("malformed/" + file)
            #expect(try await daemon.chunkmesh("ls", path + ":/").status == 0)
            let job = try await daemon.json("prefetch", path, "--scope", "node", "--no-wait").text("id")
            // A peer may come and have them: the job waits, and says for what.
            try await eventually("the job says why it waits") { try await daemon.api("/v1/jobs/" + job)["error"] != nil }
            let reason = try await daemon.api("/v1/jobs/" + job).text("error")
            #expect(reason.contains(file == "route-none.fl" ? "no route" : "ftp://"), "\(reason)")
            let read = try await daemon.chunkmesh("cat", path + ":/small")
            #expect(read.status == 1 && read.text == "" && read.errorLines.count == 1, "\(read.errors)")
            let alone = try await bench.alone("flist", "unpack", path, bench.sub("out"))
            #expect(alone.status == 1 && alone.errors.contains("/small: "), "\(alone.errors)")
        }
    }

    /// The bad entry is named and left out; the rest is unpacked; nothing lands outside.
    @Test func unpackLeavesOutWhatIsBad() async throws {
        try await withBench { bench in
            for (number, expectation) in try Fixtures.expectations().enumerated() where ["entry", "accept"].contains(expectation.kind) {
                let out = bench.sub("u\(number)/out")
                try FileManager.default.createDirectory(atPath: bench.sub("u\(number)"), withIntermediateDirectories: true)
                let outcome = try await bench.alone(
                    "flist", "unpack", Fixtures.path("malformed/" + expectation.file), out, "--store",
                    "dir://" + Fixtures.path("malformed/" + expectation.store))
                let context = "\(expectation.file): \(outcome.status) \(outcome.errors)"
                let named = outcome.errorLines.filter { $0.hasPrefix("chunkmesh: left out: ") }
                if expectation.kind == "accept" {
                    #expect(outcome.status == 0 && named.isEmpty, "\(context)")
                } else {
                    #expect(outcome.status == 1 && !named.isEmpty, "\(context)")
                    for path in expectation.paths where !path.contains("\0") && !path.contains("?") {
                        let name = path.split(separator: "/").last.map(String.init) ?? path
                        #expect(named.contains { $0.contains(name) }, "\(context) lacks \(path)")
                    }
                    if ["/victim", "/odd", "/broken"].contains(expectation.paths.first) {
                        #expect(!FileManager.default.fileExists(atPath: out + expectation.paths[0]), "\(context)")
                    }
                }
                #expect(!outcome.errors.contains("\u{1b}"))
                #expect(try FileManager.default.contentsOfDirectory(atPath: bench.sub("u\(number)")) == ["out"], "\(context)")
                #expect(FileManager.default.contents(atPath: out + "/small")?.count == 22, "\(context)")
            }
        }
    }
}
