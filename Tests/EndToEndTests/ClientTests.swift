import Foundation
import Testing

/// The programs that people read with, over HTTP and WebDAV, from a real daemon. What is not installed is passed over (scripts/common.sh
/// names the packages).
@Suite(.serialized) struct ClientTests {
    private static func has(_ program: String) -> Bool {
        ["/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/"].contains { FileManager.default.isExecutableFile(atPath: $0 + program) }
    }
    private static let canMount = getuid() == 0 && FileManager.default.fileExists(atPath: "/dev/fuse")

    /// A tree with links and odd names, as a daemon serves it, and as plain files, links followed.
    private func withTree(_ body: (Bench, Daemon, String, String) async throws -> Void) async throws {
        try await withBench { bench in
            let script = """
                set -e; mkdir -p tree/dir/sub tree/odd hub; cd tree
                head -c 3000000 /dev/urandom >big.bin; echo one >'a b&c.txt'; echo two >'100%'; echo three >'dir/#x?y;z'
                echo four >'dir/sub/ünï'; echo '<html><a href="nowhere">' >page.html; : >empty; echo five >'odd/new
                line'; printf six >"$(printf 'odd/\\377\\376')"
                ln -s . loop; ln -s dir to; ln -s nowhere dead; ln -s /../../big.bin dir/absolute; ln -s ../../../../../etc/hostname dir/out; mkfifo pipe
                mkdir ../expected; cp -rL '100%' 'a b&c.txt' big.bin page.html empty ../expected/
                for d in dir to; do mkdir -p "../expected/$d/sub"; cp 'dir/#x?y;z' "../expected/$d/"; cp big.bin "../expected/$d/absolute"
                cp dir/sub/* "../expected/$d/sub/"; done; cp -r odd ../expected/
                """
            let made = try await bench.run("/bin/bash", ["-c", "cd \"$0\"; " + script, bench.path])
            #expect(made.status == 0, "\(made.errors)")
            let packed = try await bench.run(
                "chunkmesh", ["flist", "pack", bench.sub("tree"), "-o", bench.sub("x.fl"), "--store", "dir://" + bench.sub("hub")])
            #expect(packed.status == 0, "\(packed.errors)")
            let daemon = try await bench.daemon()
            _ = try await daemon.json("stat", bench.sub("x.fl") + ":/")
            try await body(bench, daemon, daemon.url + "/v1/flists/x.fl/files/", bench.sub("expected"))
        }
    }

    private func shell(_ bench: Bench, _ script: String, _ arguments: String..., within limit: Duration = .seconds(60)) async throws
        -> Outcome
    {
        try await bench.run("/bin/bash", ["-c", "cd \"$0\"; " + script, bench.path] + arguments, within: limit)
    }

    @Test(.enabled(if: has("wget"), "wget is not installed")) func wgetTakesTheTree() async throws {
        try await withTree { bench, _, url, expected in
            let got = try await shell(
                bench,
                "mkdir got; cd got; wget -q -r -l inf -np -nH --cut-dirs=4 --restrict-file-names=nocontrol -R 'index.html*' \"$1\" || true; rm -f nowhere",
                url)
            #expect(got.status == 0, "\(got.errors)")
            try await bench.expectSame(bench.sub("got"), expected)
        }
    }

    @Test(.enabled(if: has("rclone"), "rclone is not installed"), arguments: ["http", "webdav"])
    func rcloneListsCopiesAndChecks(backend: String) async throws {
        try await withTree { bench, _, url, expected in
            let place = ["--config", "/dev/null", "--\(backend)-url", url, ":\(backend):"]
            let copied = try await bench.run("/usr/bin/rclone", ["copy"] + place + [bench.sub("got")])
            #expect(copied.status == 0, "\(copied.errors)")
            // rclone's names are text.
            _ = try await shell(bench, "rm -f got/odd/*; cp expected/odd/* got/odd/")
            try await bench.expectSame(bench.sub("got"), expected)
            let checked = try await bench.run(
                "/usr/bin/rclone", ["check", "--download", "--exclude", "/odd/**"] + place + [expected])
            #expect(checked.status == 0, "\(checked.errors)")
            let listed = try JSON(try await bench.run("/usr/bin/rclone", ["lsjson"] + place).bytes)
            #expect(listed.list("").count == 8)
        }
    }

    @Test(.enabled(if: has("rclone") && canMount, "rclone or /dev/fuse is missing, or not root")) func rcloneMountsWebDAV() async throws {
        try await withTree { bench, _, url, _ in
            let mounted = try await shell(
                bench,
                """
                unshare -m bash -c 'mount --make-rprivate /; mkdir m
                timeout 50 rclone mount --config /dev/null --webdav-url "$0" --read-only :webdav: m & p=$!
                for i in $(seq 200); do mountpoint -q m && break; sleep 0.05; done
                diff -r -x odd m expected; r=$?; touch m/new 2>/dev/null && r=9; umount m; wait $p; exit $r' "$1"
                """, url)
            #expect(mounted.status == 0, "\(mounted.text) \(mounted.errors)")
        }
    }

    @Test(.enabled(if: has("mount.davfs") && canMount, "davfs2 or /dev/fuse is missing, or not root")) func davfsMounts() async throws {
        try await withTree { bench, _, url, _ in
            let mounted = try await shell(
                bench,
                """
                unshare -m bash -c 'mount --make-rprivate /; mount -t tmpfs none /var/cache/davfs2; mount -t tmpfs none /run
                mkdir -p m /run/mount.davfs; chmod 1777 /run/mount.davfs /var/cache/davfs2
                printf "ask_auth 0\\nuse_locks 0\\n" >dav.conf; chmod 600 dav.conf
                timeout 30 mount.davfs -o "ro,conf=$PWD/dav.conf" "$0" m </dev/null || exit 1
                cd expected; find . -type f -not -path "./odd/*" | while read -r f; do cmp "$f" "../m/$f" || echo "$f"; done >../wrong
                cd ..; find expected -type d | while read -r d; do test -d "m/${d#expected}" || echo "$d"; done >>wrong
                timeout 20 umount m; cat wrong; test ! -s wrong' "$1"
                """, url)
            // Entries are looked up, not listed: davfs2 1.6.1 cannot answer READDIR of Linux 6.18, whatever the server.
            #expect(mounted.status == 0, "\(mounted.text) \(mounted.errors)")
        }
    }

    @Test func pythonReadsRanges() async throws {
        try await withTree { bench, _, url, _ in
            let script = """
                import io, sys, urllib.error, urllib.request
                url, plain = sys.argv[1] + "big.bin", open("expected/big.bin", "rb").read()
                def get(url, **headers):
                    return urllib.request.urlopen(urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()}))
                whole = get(url)
                assert whole.read() == plain and whole.headers["Accept-Ranges"] == "bytes"
                class Remote(io.RawIOBase):
                    def __init__(self): self.at = 0
                    def seekable(self): return True
                    def readable(self): return True
                    def seek(self, to, whence=0): self.at = to + (0, self.at, len(plain))[whence]; return self.at
                    def readinto(self, b):
                        if self.at >= len(plain): return 0
                        data = get(url, Range=f"bytes={self.at}-{self.at + len(b) - 1}").read()
                        b[:len(data)] = data; self.at += len(data); return len(data)
                file = io.BufferedReader(Remote(), 100_000)
                for at in (0, 2_999_999, 524_280, 1_048_570):
                    file.seek(at); assert file.read(200_000) == plain[at:at + 200_000], at
                parts = get(url, Range="bytes=0-9,1000000-1000009")
                import email
                message = email.message_from_bytes(b"Content-Type: " + parts.headers["Content-Type"].encode() + b"\\r\\n\\r\\n" + parts.read())
                got = [p.get_payload(decode=True) for p in message.get_payload()]
                assert [p["Content-Range"] for p in message.get_payload()] == ["bytes 0-9/3000000", "bytes 1000000-1000009/3000000"]
                assert len(got) == 2
                for code, headers in ((304, {"If_None_Match": whole.headers["ETag"]}), (412, {"If_Match": '"no"'}), (416, {"Range": "bytes=3000000-"})):
                    try: get(url, **headers); assert False, code
                    except urllib.error.HTTPError as error: assert error.code == code, error.code
                try:
                    import requests
                    answer = requests.get(url, headers={"Range": "bytes=-5"})
                    assert answer.status_code == 206 and answer.content == plain[-5:]
                    assert requests.get(sys.argv[1] + "dir", allow_redirects=True).url.endswith("/dir/")
                except ImportError: print("no requests")
                """
            try script.write(toFile: bench.sub("read.py"), atomically: true, encoding: .utf8)
            let read = try await shell(bench, "python3 read.py \"$1\"", url)
            #expect(read.status == 0, "\(read.errors)")
        }
    }

    @Test func twoFilesOfALargeFlistCostTheirChunks() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let made = try await shell(
                bench, "mkdir tree hub; for i in $(seq 100); do head -c 2000000 /dev/urandom >tree/f$i; done")
            #expect(made.status == 0)
            let packed = try await bench.run(
                "chunkmesh",
                [
                    "flist", "pack", bench.sub("tree"), "-o", bench.sub("hub/x.fl"), "--store", "dir://" + bench.sub("hub"), "--route",
                    "http://127.0.0.1:\(port)",
                ], within: .seconds(120))
            #expect(packed.status == 0, "\(packed.errors)")
            try await bench.hub(port: port)
            let daemon = try await bench.daemon()
            let flist = "http://127.0.0.1:\(port)/x.fl"
            let digest = try await daemon.json("pin", flist).text("digest")
            for name in ["f7", "f93"] {
                let got = try await shell(bench, "curl -sf \"$1\" | cmp - tree/\(name)", "\(daemon.url)/v1/flists/\(digest)/files/\(name)")
                #expect(got.status == 0, "\(got.text) \(got.errors)")
            }
            let stats = try await daemon.json("stats")
            // Random bytes do not compress: four blocks each, a few bytes longer.
            #expect(stats.int("chunks.fromUpstream") == 8)
            #expect((4_000_000...4_008_000).contains(stats.int("bytes.fromUpstream")), "\(stats.int("bytes.fromUpstream"))")
            let size = try #require(FileManager.default.attributesOfItem(atPath: bench.sub("hub/x.fl"))[.size] as? Int)
            let line = try await daemon.json("line").int("dayBytes")
            // With Ethernet's and TCP's headers, 1,514 bytes for 1,448, and the heads of ten answers.
            let most = Double(stats.int("bytes.fromUpstream") + size) * 1.05 + 20_000
            #expect(line > 4_000_000 && Double(line) < most, "\(line) bytes over the line, flist of \(size)")
        }
    }

    @Test func aTraceLeadsAPrefetch() async throws {
        try await withTree { bench, daemon, url, _ in
            let profile = bench.sub("start.profile")
            let traced = try await bench.run(
                "chunkmesh",
                [
                    "trace", bench.sub("x.fl"), "-o", profile, "--api", "unix:" + daemon.socket, "--", "/bin/sh", "-c",
                    "curl -sf -r 1048576-1048580 '\(url)big.bin' >/dev/null; curl -sf '\(url)page.html'; exit 7",
                ])
            #expect(traced.status == 7, "\(traced.errors)")
            let lines = try String(contentsOfFile: profile, encoding: .utf8).split(separator: "\n")
            #expect(lines.count == 6 && lines[0] == "# chunkmesh read profile 1", "\(lines)")
            _ = try await daemon.chunkmesh("forget", "x.fl")
            let other = try await bench.daemon("n2")
            let only = try await other.json("prefetch", bench.sub("x.fl"), "--scope", "node", "--profile", profile, "--only-profile")
            #expect(only.int("chunks") == 2 && only.int("doneChunks") == 2 && only.int("fromUpstream") == 2)
            let rest = try await other.json("prefetch", bench.sub("x.fl"), "--scope", "node", "--profile", profile)
            #expect(rest.int("doneChunks") == rest.int("chunks") && rest.int("chunks") > 8)
            for (content, reason) in [("nonsense\n", "does not begin"), ("# chunkmesh read profile 1\n0 x y\n", "line 2")] {
                try content.write(toFile: bench.sub("bad"), atomically: true, encoding: .utf8)
                let refused = try await other.chunkmesh("prefetch", bench.sub("x.fl"), "--profile", bench.sub("bad"))
                #expect(refused.status == 1 && refused.errorLines.count == 1 && refused.errors.contains(reason), "\(refused.errors)")
            }
            let usage = try await other.chunkmesh("prefetch", bench.sub("x.fl"), "--only-profile")
            #expect(usage.status == 2)
            let failed = try await bench.run(
                "chunkmesh", ["trace", bench.sub("x.fl"), "-o", profile, "--api", "unix:" + other.socket, "--", "/no/such/program"])
            #expect(failed.status == 1)
            #expect(try await other.api("/v1/traces").list("traces").isEmpty)
        }
    }
}
