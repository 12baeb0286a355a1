import Foundation
import Testing

/// The flist of the fixtures, through a daemon whose hub is `chunkmesh hub serve`: everything as its manifest says.
@Suite(.serialized) struct SmallFlistTests {
    /// A line of the manifest. JSONDecoder refuses the lone surrogates that stand for foreign bytes, of which there are none here.
    struct Line: Decodable, Sendable {
        let path: String
        let type: String
        let size: Int
        let mode: String
        let mtime: Int
        let target: String?
        let blake2b: String?
    }

    private func withDaemon(_ body: (Bench, Daemon, String) async throws -> Void) async throws {
        try await withBench { bench in
            let port = Ports.free()
            try await bench.hub(port: port, directory: Fixtures.path("fl/store"))
            let daemon = try await bench.daemon(
                settings: ["upstream.urls": "[\"http://127.0.0.1:\(port)\"]", "upstream.override": "true"])
            try await body(bench, daemon, try Fixtures.path("fl/small.fl"))
        }
    }

    @Test func getMakesTheTreeOfTheManifest() async throws {
        try await withDaemon { bench, daemon, flist in
            let got = try await daemon.chunkmesh("get", flist + ":/", bench.sub("out"))
            // Devices need a privilege and an option; everything else must be there.
            let left = got.errorLines.filter { $0.hasPrefix("chunkmesh: left out: ") }
            #expect(left.isEmpty, "\(left.prefix(5))")
            let manifest = try Fixtures.path("fl/small.expected.jsonl")
            let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Support/compare_tree.py")
                .path
            let compared = try await bench.run("/usr/bin/env", ["python3", script, bench.sub("out"), manifest])
            #expect(compared.status == 0 && compared.text == "", "\(compared.text.prefix(1500)) \(compared.errors.suffix(500))")
            #expect(got.status == 0, "\(got.errors)")
            let stats = try await daemon.json("stats")
            #expect(stats.int("chunks.fromUpstream") == stats.int("cache.chunks"))
        }
    }

    @Test func oddNamesAreListedAndRead() async throws {
        try await withDaemon { _, daemon, flist in
            let lines = try Fixtures.lines("fl/small.expected.jsonl").compactMap {
                try? JSONDecoder().decode(Line.self, from: Data($0.utf8))
            }
            let names = lines.filter { $0.path.hasPrefix("/names/") && !$0.path.dropFirst(7).contains("/") }
            #expect(names.count >= 50)
            let listed = try await daemon.json("ls", flist + ":/names").list("entries")
            // Exactly these, byte by byte: composed and decomposed letters differ.
            func exact(_ names: [String]) -> [[UInt8]] { names.map { Array($0.utf8) }.sorted { $0.lexicographicallyPrecedes($1) } }
            #expect(exact(listed.map { $0.text("name") }) == exact(names.map { String($0.path.dropFirst(7)) }))
            for name in listed {
                let line = try #require(names.first { Array($0.path.utf8.dropFirst(7)) == Array(name.text("name").utf8) })
                #expect(name.text("type") == line.type && name.text("mode") == line.mode && name.int("mtime") == line.mtime)
                if line.type == "file" { #expect(name.int("size") == line.size) }
            }
            // On a terminal no name does anything.
            let shown = try await daemon.chunkmesh("ls", "--long", flist + ":/names")
            #expect(shown.lines.count == names.count && !shown.text.contains("\u{1b}") && !shown.text.contains("\r"))
            for path in [
                "/names/new\nline", "/names/a:b", "/names/%s%n%x", "/names/?", "/names/#hash", "/names/-rf/file", "/names/名前",
                "/names/ leading-space", "/names/back\\slash", "/names/...", "/names/dir\nnewline/file",
            ] {
                let line = try #require(lines.first { $0.path == path }, "\(path)")
                let stat = try await daemon.json("stat", flist + ":" + path)
                #expect(stat.int("size") == line.size && stat.int("mtime") == line.mtime, "\(path)")
                let read = try await daemon.chunkmesh("cat", flist + ":" + path)
                #expect(read.status == 0 && read.bytes.count == line.size, "\(path): \(read.errors)")
            }
            let link = try await daemon.json("stat", flist + ":/links/unicode-ünï")
            #expect(link.text("target") == "tärget-🦀" && link.text("type") == "symlink")
        }
    }

    @Test func filesOverHTTP() async throws {
        try await withDaemon { bench, daemon, flist in
            let digest = try await daemon.json("pin", flist).text("digest")
            let whole = try await daemon.chunkmesh("cat", flist + ":/dup/copy-0").bytes
            #expect(whole.count == 716_800)
            let url = "\(daemon.url)/v1/flists/\(digest)/files/dup/copy-0"
            /// Status, header lines in lower case, and body.
            func curl(_ arguments: String..., of address: String = url) async throws -> (Int, [String: String], [UInt8]) {
                let headers = bench.sub("headers")
                let outcome = try await bench.run("/usr/bin/curl", ["-s", "--max-time", "20", "-D", headers] + arguments + [address])
                let lines = try String(contentsOfFile: headers, encoding: .utf8).split(whereSeparator: \.isNewline)
                let pairs = lines.dropFirst().compactMap { line -> (String, String)? in
                    guard let colon = line.firstIndex(of: ":") else { return nil }
                    return (line[..<colon].lowercased(), line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces))
                }
                let status = lines.first.flatMap { Int($0.split(separator: " ")[1]) } ?? 0
                return (status, Dictionary(pairs) { $1 }, outcome.bytes)
            }
            let (status, headers, body) = try await curl()
            #expect(status == 200 && body == whole && headers["content-length"] == "716800" && headers["accept-ranges"] == "bytes")
            let tag = try #require(headers["etag"])
            #expect(headers["last-modified"]?.hasSuffix(" GMT") == true)
            for (range, wanted) in [
                ("0-0", whole.prefix(1)), ("524287-524288", whole[524_287...524_288]), ("716799-", whole.suffix(1)),
                ("-3", whole.suffix(3)),
                ("716000-999999999", whole[716_000...]),
            ] {
                let (status, headers, body) = try await curl("-H", "Range: bytes=" + range)
                #expect(status == 206 && body == Array(wanted), "\(range): \(status), \(body.count) bytes")
                #expect(headers["content-range"] == "bytes \(wanted.startIndex)-\(wanted.endIndex - 1)/716800")
            }
            let behind = try await curl("-H", "Range: bytes=716800-")
            #expect(behind.0 == 416 && behind.1["content-range"] == "bytes */716800")
            let known = try await curl("-H", "If-None-Match: " + tag)
            #expect(known.0 == 304 && known.2.isEmpty && known.1["etag"] == tag)
            #expect(try await curl("-H", "If-None-Match: \"other\"").0 == 200)
            #expect(try await curl("-H", "If-Modified-Since: " + headers["last-modified"]!).0 == 304)
            let head = try await curl("-I")
            #expect(head.0 == 200 && head.1["content-length"] == "716800" && head.1["etag"] == tag)
            #expect(try await curl("-H", "Range: bytes=5-9", "-H", "If-Range: " + tag).0 == 206)
            let changed = try await curl("-H", "Range: bytes=5-9", "-H", "If-Range: \"other\"")
            #expect(changed.0 == 200 && changed.2.count == 716_800)

            let files = "\(daemon.url)/v1/flists/\(digest)/files"
            #expect(try await curl(of: files + "/names/new%0Aline").0 == 200)
            #expect(try await curl(of: files + "/no-such-file").0 == 404)
            #expect(try await curl(of: files + "/%zz").0 == 400)
            #expect(try await curl(of: "\(daemon.url)/v1/flists/unheard-of/files/x").0 == 404)
            let tree = try JSON(try await curl(of: "\(daemon.url)/v1/flists/\(digest)/tree/links").2)
            tree.expect("entries[0].name", "entries[0].size", "entries[0].mode", "entries[0].mtime", "entries[0].uid", "entries[0].gid")
            #expect(tree.list("entries").contains { $0["target"] != nil })

            // Pages of foreign names and origins are kept out.
            for path in ["/", "/v1/stats", "/metrics"] {
                #expect(try await curl("-H", "Host: rebound.example.org", of: daemon.url + path).0 == 403)
                #expect(try await curl("-H", "Origin: http://example.org", of: daemon.url + path).0 == 403)
                #expect(try await curl(of: "http://localhost:\(daemon.apiPort)" + path).0 == 200)
            }
        }
    }

    @Test func healthMetricsAndDashboard() async throws {
        try await withDaemon { _, daemon, flist in
            #expect(try await daemon.json("prefetch", flist, "--scope", "node").text("state") == "done")
            #expect(try await daemon.get("/healthz").text == "ok\n")
            #expect(try await daemon.get("/readyz").text == "ready\n")
            for path in ["/v1/stats", "/v1/peers", "/v1/status"] { _ = try await daemon.api(path) }
            let page = try await daemon.get("/").text
            #expect(page.contains("<html") && page.contains("chunkmesh"))
            let text = try await daemon.get("/metrics").text
            var types: [String: String] = [:]
            var samples: [String: Double] = [:]
            for line in text.split(separator: "\n") {
                if line.hasPrefix("# TYPE ") {
                    let words = line.split(separator: " ")
                    types[String(words[2])] = String(words[3])
                } else if !line.hasPrefix("#") {
                    let match = try #require(
                        line.wholeMatch(of: /(chunkmesh_[a-z_]+)(\{([a-z]+="[^"\\\n]*",?)+\})? (-?[0-9.]+(e[-+]?[0-9]+)?)/), "\(line)")
                    #expect(types[String(match.1)] != nil, "no type: \(line)")
                    #expect(samples.updateValue(try #require(Double(match.4)), forKey: String(match.1) + String(match.2 ?? "")) == nil)
                }
            }
            #expect(types.values.allSatisfy { ["counter", "gauge"].contains($0) } && types.count > 10)
            let chunks = try await daemon.json("stats").number("cache.chunks")
            #expect(samples["chunkmesh_cache_chunks"] == chunks && chunks > 100)
            #expect(samples["chunkmesh_chunks_total{origin=\"upstream\"}"] == chunks)
        }
    }
}
