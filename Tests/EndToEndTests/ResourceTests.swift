import Foundation
import Testing

/// Machines that run out of something: disk, descriptors, memory, patience. Real processes; disks that fill are file systems in memory in a mount
/// namespace of the daemon's own.
@Suite(.serialized) struct ResourceTests {
    private static let isRoot = geteuid() == 0
    private static let isLong = ProcessInfo.processInfo.environment["CHUNKMESH_LONG_TESTS"] != nil
    /// Lines that a daemon may log in a test of trouble: what it starts and ends with, and two bursts (`RepeatLimit`).
    private static let maxLogLines = 80

    private func lines(_ daemon: Daemon) -> Int { daemon.log.split(separator: "\n").count }

    /// A small disk: it evicts, then serves without storing; every read is right, the other node is none the worse, and the log is short.
    @Test(.enabled(if: isRoot, "needs root: mounts a small file system")) func aFullDiskWhileSharing() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, tree) = try await bench.pack(files: 24, bytes: 500_000, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let key = try await bench.key()
            let first = try await bench.daemon("n1", key: key)
            let small = try Daemon(
                bench: bench, name: "n2", key: key, seeds: [first], settings: ["api.socket": bench.sub("n2.sock")])
            try await small.start(shell: "mkdir -p '\(small.cache)' && mount -t tmpfs -o size=7m tmpfs '\(small.cache)'")
            try await eventually("they meet") { try await first.json("peers").text("peers[0].state") == "alive" }
            // Nothing may be evicted of what is pinned: the rest is served without being stored.
            #expect(try await small.chunkmesh("pin", flist).status == 0)
            let got = try await small.chunkmesh("get", flist + ":/", bench.sub("out"))
            #expect(got.status == 0, "\(got.errors)")
            try await bench.expectSame(tree, bench.sub("out"))
            let stats = try await small.json("stats")
            #expect(stats.int("cache.notStoredChunks") > 0 && stats.int("cache.chunks") > 4, "\(stats)")
            // Unpinned, it evicts and stores.
            #expect(try await small.chunkmesh("unpin", flist).status == 0)
            let again = try await small.chunkmesh("get", flist + ":/", bench.sub("out2"))
            #expect(again.status == 0, "\(again.errors)")
            try await bench.expectSame(tree, bench.sub("out2"))
            #expect(try await small.json("stats").int("cache.evictedChunks") > 0)
            // A prefetch that cannot fit says so.
            let refused = try await small.chunkmesh("prefetch", flist, "--scope", "node", "--no-wait")
            #expect(refused.status == 0)
            try await eventually("the job says what is wrong") {
                let jobs = try await small.json("status").list("jobs")
                return jobs.contains { $0["error"] != nil && ($0.text("error").contains("room") || $0.text("error").contains("small")) }
            }
            // The neighbour is none the worse for it.
            #expect(try await first.json("prefetch", flist, "--scope", "node").text("state") == "done")
            #expect(lines(small) < Self.maxLogLines, "\(small.log.suffix(2000))")
            let ended = await small.terminated()
            #expect(ended.status == 0)
        }
    }

    /// A disk that takes 150 ms for each write and flush: the other nodes have the image within 10 s all the same (it takes them about 2 s
    /// when all disks are quick), and the slow one gets it too.
    @Test func aSlowDiskHoldsUpNobodyElse() async throws {
        try await withBench { bench in
            let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Support/slow_disk.c").path
            let library = bench.sub("slow_disk.so")
            let made = try await bench.run("/bin/sh", ["-c", "cc -shared -fPIC -O1 -o \"$0\" \"$1\" -ldl", library, source])
            try #require(made.status == 0, "\(made.errors)")
            let port = Ports.free()
            let (flist, tree) = try await bench.pack(files: 24, bytes: 100_000, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let key = try await bench.key()
            let first = try await bench.daemon("n1", key: key)
            let second = try await bench.daemon("n2", key: key, seeds: [first])
            let slow = try Daemon(bench: bench, name: "n3", key: key, seeds: [first], settings: [:])
            try await slow.start(environment: ["LD_PRELOAD": library, "SLOW_DISK_MS": "150"])
            try await eventually("they meet") {
                try await first.json("peers").list("peers").count { $0.text("state") == "alive" } == 2
            }
            let begun = ContinuousClock.now
            _ = try await first.json("prefetch", flist, "--scope", "all", "--no-wait")
            for daemon in [first, second] {
                try await eventually("\(daemon.name) has all") {
                    let shown = try await daemon.json("status").list("flists")
                    return shown.first?.bool("node.complete") == true
                }
            }
            let time = ContinuousClock.now - begun
            #expect(time < .seconds(10), "\(time)")
            try await eventually("the slow one too") {
                try await slow.json("status").list("flists").first?.bool("node.complete") == true
            }
            let got = try await slow.chunkmesh("get", flist + ":/", bench.sub("out"))
            #expect(got.status == 0, "\(got.errors)")
            try await bench.expectSame(tree, bench.sub("out"))
            #expect(try await first.json("stats").number("site.egressRatio") < 1.1)
        }
    }

    /// Out of descriptors: what is connected is answered, nothing spins, the log is short, and all is well when they are back.
    @Test func noDescriptorsLeft() async throws {
        try await withBench { bench in
            let daemon = try Daemon(bench: bench, name: "n1", key: try await bench.key(), seeds: [], settings: [:])
            try await daemon.start(shell: "ulimit -n 128")
            let known = try #require(Connection(port: daemon.apiPort))
            #expect(try known.get("/healthz").contains("200"))
            let flood = (0..<150).map { Connection(port: $0 % 3 == 0 ? daemon.meshPort : daemon.apiPort) }
            try await Task.sleep(for: .milliseconds(500))
            let before = daemon.processorTime
            try await Task.sleep(for: .seconds(2))
            let spent = daemon.processorTime - before
            #expect(spent < 0.6, "\(spent) s of processor time in 2 s")
            #expect(try known.get("/healthz").contains("200"), "who is connected is answered")
            for connection in flood { connection?.close() }
            try await eventually("it accepts again") { try await daemon.get("/readyz").text.contains("ready") }
            #expect(lines(daemon) < Self.maxLogLines, "\(daemon.log.suffix(2000))")
        }
    }

    private static let descriptors: UInt = {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return UInt(limit.rlim_max)
    }()

    /// 400 strangers at each port at once: answers in time, bounded memory, a short log, and nothing stays behind.
    @Test(.enabled(if: descriptors >= 8192, "needs a hard limit of 8,192 descriptors")) func fourHundredConnectionsAtOnce() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, _) = try await bench.pack(files: 8, bytes: 100_000, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let key = try await bench.key()
            let first = try await bench.daemon("n1", key: key)
            let second = try await bench.daemon("n2", key: key, seeds: [first])
            try await eventually("they meet") { try await first.json("peers").text("peers[0].state") == "alive" }
            let memory = first.memory
            let strangers = (0..<400).compactMap { _ in Connection(port: first.meshPort) }
            let clients = (0..<400).compactMap { _ in Connection(port: first.apiPort) }
            #expect(strangers.count == 400 && clients.count == 400)
            for (index, stranger) in strangers.enumerated() { stranger.send([UInt8](repeating: UInt8(index & 255), count: 200)) }
            for client in clients { client.send(Array("GET /v1/stats HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8)) }
            var slowest = Duration.zero
            for _ in 0..<5 {
                let begun = ContinuousClock.now
                #expect(try await first.get("/healthz").text == "ok\n")
                slowest = max(slowest, ContinuousClock.now - begun)
            }
            #expect(slowest < .seconds(3), "\(slowest)")
            #expect(clients.count { (try? $0.answer().contains("200")) == true } == 400, "all are answered")
            // Meanwhile the mesh works.
            #expect(try await second.json("prefetch", flist, "--scope", "all").text("state") == "done")
            try await eventually("the other has it") {
                try await first.json("status").list("flists").first?.bool("node.complete") == true
            }
            let grown = first.memory - memory
            #expect(grown < 96 << 20, "\(grown >> 20) MiB")
            for connection in strangers + clients { connection.close() }
            #expect(try await second.json("peers").text("peers[0].state") == "alive")
            #expect(lines(first) < Self.maxLogLines, "\(first.log.suffix(2000))")
            try await eventually("nothing stays behind") {
                let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(first.program.pid)/fd").count
                return open < 120
            }
        }
    }

    /// Four nodes share 48 MiB and read it (with CHUNKMESH_LONG_TESTS eight share 192 MiB): none ever takes more than 256 MiB.
    @Test func memoryStaysWithin256MiB() async throws {
        let count = Self.isLong ? 8 : 4
        try await withBench { bench in
            let port = Ports.free()
            let (flist, _) = try await bench.pack(files: Self.isLong ? 96 : 24, bytes: 2 << 20, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let key = try await bench.key()
            let first = try await bench.daemon("n1", key: key)
            var all = [first]
            for number in 2...count { all.append(try await bench.daemon("n\(number)", key: key, seeds: [first])) }
            try await eventually("they meet") {
                try await first.json("peers").list("peers").count { $0.text("state") == "alive" } == count - 1
            }
            let job = try await bench.run(
                "chunkmesh", ["prefetch", flist, "--scope", "all", "--api", "unix:" + first.socket],
                within: .seconds(Self.isLong ? 300 : 40))
            #expect(job.status == 0, "\(job.errors)")
            let got = try await all[3].chunkmesh("get", flist + ":/", bench.sub("out"))
            #expect(got.status == 0, "\(got.errors)")
            for daemon in all { #expect(daemon.peakMemory < 256 << 20, "\(daemon.name): \(daemon.peakMemory >> 20) MiB") }
        }
    }

    /// An image of a million chunks that nobody has: made known, announced, asked for. Minutes in a debug build; set CHUNKMESH_LONG_TESTS.
    @Test(.enabled(if: isLong, "takes minutes: set CHUNKMESH_LONG_TESTS"))
    func aMillionChunksWithin256MiB() async throws {
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 1, bytes: 1000, route: "http://127.0.0.1:1")
            let made = try await bench.run(
                "/usr/bin/env",
                [
                    "python3", "-c",
                    """
                    import os, sqlite3, sys
                    db = sqlite3.connect(sys.argv[1])
                    ino = db.execute("select ino from block limit 1").fetchone()[0]
                    db.executemany("insert into block (ino, id, key) values (?, ?, ?)",
                                   ((ino, os.urandom(32), os.urandom(32)) for _ in range(1_000_000)))
                    db.commit()
                    """, flist,
                ], within: .seconds(120))
            try #require(made.status == 0, "\(made.errors)")
            let key = try await bench.key()
            let first = try await bench.daemon("n1", key: key)
            let second = try await bench.daemon("n2", key: key, seeds: [first])
            for daemon in [first, second] {
                let known = try await bench.run(
                    "chunkmesh", ["prefetch", flist, "--copies", "2", "--no-wait", "--json", "--api", "unix:" + daemon.socket],
                    within: .seconds(200))
                #expect(known.status == 0, "\(known.errors)")
            }
            try await Task.sleep(for: .seconds(20))
            for daemon in [first, second] {
                #expect(try await daemon.json("status").int("flists[0].chunks") > 1_000_000)
                #expect(daemon.peakMemory < 256 << 20, "\(daemon.name): \(daemon.peakMemory >> 20) MiB")
            }
        }
    }

    /// The disk of the output fills: one line, status 1, nothing half-written.
    @Test(.enabled(if: isRoot, "needs root: mounts a small file system"), arguments: ["convert", "export", "import"])
    func theDiskFillsUnderACommand(command: String) async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, tree) = try await bench.pack(files: 8, bytes: 400_000, route: "http://127.0.0.1:\(port)")
            try await bench.hub(port: port)
            let daemon = try await bench.daemon()
            _ = try await daemon.json("prefetch", flist, "--scope", "node")
            let disk = bench.sub("disk")
            let program = Program.folder + "/chunkmesh"
            let run: String
            switch command {
            case "convert":
                let made = try await bench.run(
                    "/usr/bin/env", ["python3", "-c", Self.imageScript, bench.sub("image.tar"), tree])
                try #require(made.status == 0, "\(made.errors)")
                run = "\(program) flist convert \(bench.sub("image.tar")) -o \(disk)/out --store dir://\(disk)/store"
            case "export": run = "\(program) cache export \(disk)/out --api unix:\(daemon.socket)"
            default:
                let exported = try await daemon.chunkmesh("cache", "export", bench.sub("file.cmc"))
                #expect(exported.status == 0, "\(exported.errors)")
                run = "\(program) cache import \(bench.sub("file.cmc")) --cache \(disk)/cache"
            }
            let script =
                "mkdir -p \(disk) && mount -t tmpfs -o size=1m tmpfs \(disk) && { \(run); status=$?; ls -A \(disk); exit $status; }"
            let outcome = try await bench.run("/usr/bin/unshare", ["--mount", "/bin/sh", "-c", script])
            #expect(outcome.status == 1, "\(outcome.text) \(outcome.errors)")
            if command == "import" {
                #expect(outcome.errors.contains("no room for it all"), "\(outcome.errors)")
            } else {
                #expect(outcome.errorLines.count == 1 && outcome.errors.contains("No space left on device"), "\(outcome.errors)")
                #expect(!outcome.lines.contains { $0.hasPrefix("out") }, "\(outcome.lines)")
            }
        }
    }

    /// A container image as `docker save` writes it, of one layer with the files of a tree.
    private static let imageScript = """
        import hashlib, io, json, sys, tarfile
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar: tar.add(sys.argv[2], arcname=".")
        layer = layer.getvalue()
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                             "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode()
        name = hashlib.sha256(config).hexdigest() + ".json"
        manifest = json.dumps([{"Config": name, "RepoTags": ["thing:latest"], "Layers": ["layer.tar"]}]).encode()
        with tarfile.open(sys.argv[1], "w") as tar:
            for path, body in [(name, config), ("layer.tar", layer), ("manifest.json", manifest)]:
                entry = tarfile.TarInfo(path)
                entry.size = len(body)
                tar.addfile(entry, io.BytesIO(body))
        """

    /// A TCP connection to this machine, with no more to it.
    final class Connection {
        private var descriptor: Int32

        init?(port: Int) {
            descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(port).bigEndian
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var limit = timeval(tv_sec: 10, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
            let done = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            if done != 0 {
                Glibc.close(descriptor)
                return nil
            }
        }

        deinit { close() }

        func close() {
            if descriptor >= 0 { Glibc.close(descriptor) }
            descriptor = -1
        }

        func send(_ bytes: [UInt8]) { _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }

        /// The first bytes of what comes.
        func answer() throws -> String {
            var buffer = [UInt8](repeating: 0, count: 16_384)
            let count = recv(descriptor, &buffer, buffer.count, 0)
            try #require(count > 0, "no answer: \(String(cString: strerror(errno)))")
            return String(decoding: buffer[..<count], as: UTF8.self)
        }

        func get(_ path: String) throws -> String {
            send(Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8))
            return try answer()
        }
    }
}
