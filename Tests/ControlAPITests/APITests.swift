import ChunkModel
import ControlClient
import ControlModel
import Foundation
import Logging
import Synchronization
import Testing

@testable import ControlAPI

/// A node that knows one flist with one file.
final class ScriptedNode: NodeControl {
    static let content = (0..<1_200_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 4) }
    let prefetches = Mutex<[PrefetchRequest]>([])
    let paths = Mutex<[[UInt8]]>([])
    let isReady = Atomic(true)

    struct File: ServedFile {
        var isReady = false
        var isStored = false
        var isFailing = false
        var descriptor: Int32?
        var size: UInt64 { UInt64(ScriptedNode.content.count) }
        var mtime: Int64 { 784_111_777 }
        var entityTag: String { "tag" }
        func read(at offset: UInt64, atMost length: Int) async throws -> (buffer: ChunkBuffer, range: Range<Int>) {
            if isFailing { throw POSIXError(.EIO) }
            let start = Int(offset)
            let block = start / 500_000 * 500_000
            let end = min(block + 500_000, ScriptedNode.content.count)
            return (ChunkBuffer(copying: ScriptedNode.content[block..<end]), start - block..<min(end - start, length) + start - block)
        }
    }

    func stats() async -> Stats {
        let none = Stats.Chunks(fromLocal: 1, fromPeers: 2, fromUpstream: 3, toPeers: 4)
        return Stats(
            name: "n", siteName: "s", id: "00", version: "v", uptimeSeconds: 1,
            cache: .init(bytes: 1, chunks: 1, maxBytes: 2, pinnedBytes: 0, evictedChunks: 0, notStoredChunks: 0), chunks: none, bytes: none,
            site: .init(egressRatio: 1, upstreamBytes: 1, uniqueBytes: 1, nodes: 1),
            errors: .init(verifyFailed: 0, peerTimeouts: 0, upstreamErrors: 0))
    }
    func peers() async -> Peers { Peers(peers: []) }
    func status(of flist: String?) async throws(NodeError) -> Status {
        if let flist, flist != "known" { throw .notFound("no flist is known as \(flist)") }
        return Status(flists: [], jobs: [])
    }
    func open(_ flist: String) async throws(NodeError) -> KnownFlist { KnownFlist(name: flist, digest: "d", chunks: 1) }
    func forget(_ flist: String) async throws(NodeError) -> KnownFlist { throw .conflict("in use") }
    func setPinned(_ flist: String, _ pinned: Bool) async throws(NodeError) -> KnownFlist { try await open(flist) }
    func verify(_ flist: String, on place: VerifyPlace) async throws(NodeError) -> FlistVerification {
        FlistVerification(chunks: 1, good: 1, problems: [])
    }
    func prefetch(_ request: PrefetchRequest) async throws(NodeError) -> Job {
        prefetches.withLock { $0.append(request) }
        return Job(id: "1", flist: request.flist, digest: "d", scope: request.scope ?? .site, copies: 1, pin: false)
    }
    func job(_ id: String, wait: Duration) async throws(NodeError) -> Job { throw .notFound("no job has the id \(id)") }
    func cancelJob(_ id: String) async throws(NodeError) -> Job { throw .unavailable("disk") }
    func tree(_ flist: String, path: [UInt8], after: Int64?) async throws(NodeError) -> Tree {
        paths.withLock { $0.append(path) }
        let entry = TreeEntry(name: flist, type: .dir, size: 0, mode: "0755", mtime: 0, uid: 0, gid: 0)
        return Tree(path: String(decoding: path, as: UTF8.self), entry: entry, entries: [], problems: [], next: after.map { "\($0)" })
    }
    func image(_ flist: String) async throws(NodeError) -> any ServedFile { File() }
    func signature(_ flist: String) async throws(NodeError) -> [UInt8] {
        guard flist == "known" else { throw .notFound("\(flist) is not signed") }
        return [0x75, 0xfe, 0x0a]
    }
    func chunk(_ flist: String, id: ChunkID) async throws(NodeError) -> Chunk { throw .notFound("no chunk") }
    func line() async -> Line {
        Line(
            state: "open", reason: nil, until: nil, bitsPerSecond: 8_000_000, shareBitsPerSecond: 1_000_000, monthBytes: 5, dayBytes: 4,
            monthlyCap: 6, nodeBytes: 3, nodes: [])
    }
    func setLine(_ request: LineRequest) async throws(NodeError) -> Line {
        guard request.action == .pause else { throw .badRequest("not scripted") }
        var line = await line()
        (line.state, line.until) = (request.all == true ? "stopped" : "paused", request.seconds)
        return line
    }
    func verifyCache() async throws(NodeError) -> CacheReport { CacheReport(chunks: 1, bytes: 1, removed: [], freedBytes: 0) }
    func collectGarbage() async throws(NodeError) -> CacheReport { try await verifyCache() }
    func metrics() async -> String { "chunkmesh_x 1\n" }
    func meshKeys() async throws(NodeError) -> MeshKeyList { MeshKeyList(nodes: [], away: [], rotating: "00") }
    func rotateKeys(_ request: KeyRotation) async throws(NodeError) -> KeyRotationReport {
        KeyRotationReport(key: "00", steps: [], away: [], done: true, problem: nil)
    }
    func revoked() async throws(NodeError) -> NodeRevocations { NodeRevocations(revoked: []) }
    func revoke(_ revocation: NodeRevocation) async throws(NodeError) -> NodeRevocations { NodeRevocations(revoked: [revocation]) }
    func restore(_ node: String) async throws(NodeError) -> NodeRevocations { throw .notFound("not revoked") }
    func notReady() async -> String? { isReady.load(ordering: .relaxed) ? nil : "opening" }
}

@Suite struct APITests {
    /// Serves a scripted node on a Unix socket while `body` runs.
    private func withAPI(_ body: (String, ScriptedNode) async throws -> Void) async throws {
        let socket = NSTemporaryDirectory() + "api-\(UUID().uuidString.prefix(8)).sock"
        let node = ScriptedNode()
        var logger = Logger(label: "api")
        logger.logLevel = .critical
        let api = ControlAPI(node: node, socket: socket, listen: nil, logger: logger)
        let running = Task { try await api.run() }
        let client = ControlClient(.unix(socket))
        for _ in 0..<500 {
            if (try? await offPool({ try client.bytes("/healthz", maxBytes: 100) })) != nil { break }
            try await Task.sleep(for: .milliseconds(10))
        }
        try await body(socket, node)
        running.cancel()
        try? await running.value
        #expect(!FileManager.default.fileExists(atPath: socket))
    }

    @Test func answersHaveTheFormOfTheModel() async throws {
        try await withAPI { socket, node in
            let client = ControlClient(.unix(socket))
            #expect(try await offPool { try client.get("/v1/stats", as: Stats.self) }.chunks.fromPeers == 2)
            #expect(try await offPool { try client.get("/v1/peers", as: Peers.self) }.peers.isEmpty)
            let request = PrefetchRequest(flist: "http://h/x.fl", scope: .all, pin: true)
            #expect(try await offPool { try client.post("/v1/prefetch", request, as: Job.self) }.scope == .all)
            #expect(node.prefetches.withLock { $0 } == [request])
            #expect(try await offPool { try client.bytes("/metrics", maxBytes: 100) } == Array("chunkmesh_x 1\n".utf8))
            let tree = try await offPool { try client.get("/v1/flists/a%2Fb/tree/x%FFy?after=7", as: Tree.self) }
            #expect(tree.entry.name == "a/b" && tree.next == "7")
            #expect(node.paths.withLock { $0 } == [Array("/x".utf8) + [0xFF, UInt8(ascii: "y")]])
        }
    }

    @Test func signaturesAreServedAsTheyAre() async throws {
        try await withAPI { socket, _ in
            let client = ControlClient(.unix(socket))
            let bytes = try await offPool { try client.bytes("/v1/flists/known/signature", maxBytes: 10) }
            #expect(bytes == [0x75, 0xfe, 0x0a])
            await #expect(throws: ControlError.self) {
                try await offPool { try client.bytes("/v1/flists/other/signature", maxBytes: 10) }
            }
        }
    }

    @Test func cachesAreCarriedOutAndIn() async throws {
        try await withAPI { socket, _ in
            let client = ControlClient(.unix(socket))
            let out = try await offPool {
                var out: [UInt8] = []
                try client.stream("/v1/cache/export?flist=a%20b&flist=c", range: nil) { piece in
                    out += piece
                    return true
                }
                return out
            }
            #expect(out == ScriptedNode.carried)
            await #expect(throws: ControlError.refused(status: 404, "no flist is known as [\"x\"]")) {
                try await offPool { try client.stream("/v1/cache/export?flist=x", range: nil) { _ in true } }
            }
            let report = try await offPool {
                var sent = 0
                return try client.upload("/v1/cache/import", as: CacheImportReport.self) { buffer in
                    let piece = ScriptedNode.carried[sent..<min(sent + 40_000, sent + buffer.count, ScriptedNode.carried.count)]
                    buffer.copyBytes(from: piece)
                    sent += piece.count
                    return piece.count
                }
            }
            #expect(report.stored == ScriptedNode.carried.count)
            await #expect(throws: ControlError.stopped) {
                try await offPool { try client.upload("/v1/cache/import", as: CacheImportReport.self) { _ in nil } }
            }
        }
    }

    @Test func errorsCarryTheirLineAndStatus() async throws {
        try await withAPI { socket, node in
            let client = ControlClient(.unix(socket))
            await #expect(throws: ControlError.refused(status: 404, "no flist is known as x")) {
                try await offPool { try client.get("/v1/status?flist=x", as: Status.self) }
            }
            await #expect(throws: ControlError.refused(status: 409, "in use")) {
                try await offPool { try client.delete("/v1/flists/x", as: KnownFlist.self) }
            }
            await #expect(throws: ControlError.refused(status: 503, "disk")) {
                try await offPool { try client.delete("/v1/jobs/1", as: Job.self) }
            }
            await #expect(throws: ControlError.refused(status: 400, "the JSON body lacks \"flist\"")) {
                try await offPool { try client.post("/v1/prefetch", ["other": 1], as: Job.self) }
            }
            node.isReady.store(false, ordering: .relaxed)
            await #expect(throws: ControlError.self) { try await offPool { try client.bytes("/readyz", maxBytes: 100) } }
        }
    }

    @Test func contentComesWholeAndInRanges() async throws {
        try await withAPI { socket, _ in
            let client = ControlClient(.unix(socket))
            for (range, expected) in [
                (nil, 0..<1_200_000), ("0-0", 0..<1), ("499999-500000", 499_999..<500_001), ("1100000-", 1_100_000..<1_200_000),
                ("-5", 1_199_995..<1_200_000),
            ] as [(String?, Range<Int>)] {
                let got = try await offPool {
                    let out = Collected()
                    try client.stream("/v1/flists/a/files/f", range: range) {
                        out.bytes += $0; return true
                    }
                    return out.bytes
                }
                #expect(got == Array(ScriptedNode.content[expected]), "\(range ?? "whole"): \(got.count)")
            }
            await #expect(throws: ControlError.self) {
                try await offPool { try client.stream("/v1/flists/a/files/f", range: "1200000-") { _ in true } }
            }
            await #expect(throws: ControlError.stopped) {
                try await offPool { try client.stream("/v1/flists/a/files/f", range: nil) { _ in false } }
            }
        }
    }

    @Test(arguments: [
        (["-H", "If-None-Match: \"tag\""], "304 0"), (["-H", "If-None-Match: W/\"tag\""], "304 0"),
        (["-H", "If-None-Match: \"other\", W/\"tag\""], "304 0"),
        (["-H", "If-None-Match: *"], "304 0"), (["-H", "If-Match: \"tag\""], "200 1200000"), (["-H", "If-Match: *"], "200 1200000"),
        (["-H", "If-Match: W/\"tag\""], "412"), (["-H", "If-Match: \"other\""], "412"),
        (["-H", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], "200 1200000"),
        (["-H", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT"], "412"),
        (["-H", "If-Modified-Since: Sunday, 06-Nov-94 08:49:38 GMT"], "304 0"),
        (["-H", "If-Modified-Since: Sun Nov  6 08:49:36 1994"], "200 1200000"),
        (["-H", "If-Modified-Since: yesterday"], "200 1200000"),
        (["-H", "If-None-Match: \"old\"", "-H", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], "200 1200000"),
        (["-H", "Range: bytes=0-9", "-H", "If-Range: W/\"tag\""], "200 1200000"),
        (["-H", "Range: bytes=0-9", "-H", "If-Range: Sunday, 06-Nov-94 08:49:37 GMT"], "206 10"),
        (["-H", "Range: bytes=0-9", "-H", "If-Range: Sun, 06 Nov 1994 08:49:38 GMT"], "200 1200000"),
        (["-I", "-H", "Range: bytes=0-9"], "200 0"), (["-H", "Range: bytes=1200000-"], "416 0"),
        (["-H", "If-None-Match: \"other\""], "200 1200000"), (["-H", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"], "304 0"),
        (["-H", "Range: bytes=0-9", "-H", "If-Range: \"tag\""], "206 10"),
        (["-H", "Range: bytes=0-9", "-H", "If-Range: \"old\""], "200 1200000"), (["-I"], "200 0"), (["-H", "Host: evil.example"], "403"),
        (["-H", "Origin: http://evil.example"], "403"), (["-H", "Sec-Fetch-Site: cross-site"], "403"),
        (["-H", "Sec-Fetch-Site: same-origin"], "200 1200000"),
    ]) func headersRevalidateAndKeepPagesOut(headers: [String], expected: String) async throws {
        try await withAPI { socket, _ in
            let format = ["-s", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", "--unix-socket", socket]
            let got = try await offPool { try curl(format + headers + ["http://localhost/v1/flists/a/files/f"]) }
            #expect(got.hasPrefix(expected), "\(got)")
        }
    }

    @Test func noDaemonIsSaidPlainly() async {
        let client = ControlClient(.unix("/nowhere/api.sock"))
        await #expect(throws: ControlError.self) { try await offPool { try client.get("/v1/stats", as: Stats.self) } }
        do { _ = try await offPool { try client.get("/v1/stats", as: Stats.self) } } catch {
            #expect("\(error)".hasPrefix("no daemon answers at unix:/nowhere/api.sock"))
        }
    }

    @Test(arguments: [("unix:/a", "unix:/a"), ("unix:///a", "unix:/a"), ("/a", "unix:/a"), ("http://h:1/", "http://h:1")])
    func endpoints(text: String, shown: String) throws { #expect(try ControlEndpoint(text).description == shown) }

    @Test func otherEndpointsAreRefused() { #expect(throws: ControlError.self) { try ControlEndpoint("ftp://h") } }

    @Test func pathsAreEscapedByTheByte() { #expect(ControlClient.escape(path: Array("/a b%".utf8) + [0xFF]) == "/a%20b%25%FF") }
}

final class Collected { var bytes: [UInt8] = [] }

private func curl(_ arguments: [String]) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/curl")
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let bytes = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: bytes, as: UTF8.self)
}

/// Runs blocking calls on a thread of their own: the server needs those of the pool.
func offPool<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result(catching: body)) }
    }
}
