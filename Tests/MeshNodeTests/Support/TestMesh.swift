import ChunkModel
import ControlAPI
import ControlModel
import Flist
import FlistTools
import Foundation
import Glibc
import Logging
import Testing

@testable import MeshNode
@testable import NodeConfiguration

/// Real nodes on loopback in one process, a hub, and their directories, which go with it.
final class TestMesh: @unchecked Sendable {
    static let key = [UInt8](repeating: 7, count: 32)
    let directory: String
    let hub: TestHub
    private(set) var nodes: [TestNode] = []

    init() throws {
        directory = NSTemporaryDirectory() + "meshnode-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: directory + "/hub", withIntermediateDirectories: true)
        _ = FileManager.default.createFile(
            atPath: directory + "/mesh.key", contents: Data((Base64.encode(Self.key) + "\n").utf8), attributes: [.posixPermissions: 0o600])
        hub = TestHub(directory: directory + "/hub")
    }

    deinit {
        hub.stop()
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// Runs `body` and stops all nodes after it, whatever it does.
    static func with(nodes count: Int, _ body: (TestMesh) async throws -> Void) async throws {
        let mesh = try TestMesh()
        do {
            for _ in 0..<count { try await mesh.addNode() }
            try await mesh.meet()
            try await body(mesh)
        } catch {
            await mesh.stop()
            throw error
        }
        await mesh.stop()
    }

    @discardableResult
    func addNode(_ change: (inout Configuration) -> Void = { _ in }) async throws -> TestNode {
        let node = try TestNode(
            name: "n\(nodes.count)", directory: "\(directory)/n\(nodes.count)", key: directory + "/mesh.key", seeds: nodes.map(\.port),
            change)
        nodes.append(node)
        try await node.start()
        return node
    }

    /// Waits until each node knows all others and what they say of themselves.
    func meet() async throws {
        let count = nodes.count(where: \.isRunning)
        try await eventually("all nodes meet") {
            self.nodes.allSatisfy { !$0.isRunning || ($0.node.parts.gossip.liveCount >= count && $0.node.parts.fetchingNodes >= count) }
        }
        try await eventually("nodes are grown up") {
            self.nodes.allSatisfy { !$0.isRunning || $0.node.parts.clock.now > SiteView.newcomerGrace }
        }
    }

    func stop() async {
        await withTaskGroup(of: Void.self) { group in
            for node in nodes { group.addTask { await node.stop() } }
        }
    }

    /// Packs files of these sizes into the hub's directory.
    @discardableResult
    func pack(_ name: String, sizes: [Int], seed: UInt64 = 1, route: String? = nil) throws -> Packed {
        let tree = "\(directory)/tree-\(name)"
        try FileManager.default.createDirectory(atPath: tree, withIntermediateDirectories: true)
        var files: [String: [UInt8]] = [:]
        for (index, size) in sizes.enumerated() {
            files["f\(index)"] = random(size, seed: seed &* 1000 &+ UInt64(index))
            try Data(files["f\(index)"]!).write(to: URL(fileURLWithPath: "\(tree)/f\(index)"))
        }
        let output = "\(hub.directory)/\(name)"
        _ = try FlistPacker.pack(
            PackOptions(
                directory: tree, output: output, stores: [PackStore(url: route ?? hub.url, sink: DirStore(path: hub.directory))]))
        let chunks = try FlistFile(path: output).uniqueChunks()
        return Packed(name: name, url: "\(hub.url)/\(name)", path: output, chunks: chunks, files: files)
    }
}

struct Packed: Sendable {
    let name: String
    let url: String
    let path: String
    let chunks: [ChunkID]
    let files: [String: [UInt8]]
}

final class TestNode: @unchecked Sendable {
    let port: UInt16
    private(set) var configuration: Configuration
    private(set) var node: MeshNode
    private var running: Task<Void, any Error>?

    init(name: String, directory: String, key: String, seeds: [UInt16], _ change: (inout Configuration) -> Void) throws {
        port = Loopback.port()
        var configuration = Configuration(
            node: .init(name: name), cache: .init(dir: directory, minFree: .bytes(0)), api: .init(socket: directory + "/api.sock"))
        configuration.mesh.keyFile = key
        configuration.mesh.listen = HostPort(host: "127.0.0.1", port: port)
        configuration.mesh.seeds = seeds.map { HostPort(host: "127.0.0.1", port: $0) }
        configuration.mesh.multicast = false
        change(&configuration)
        self.configuration = configuration
        node = try Self.make(configuration)
    }

    static func make(_ configuration: Configuration) throws -> MeshNode {
        var logger = Logger(label: configuration.node.name)
        logger.logLevel = ProcessInfo.processInfo.environment["LOG"].flatMap { Logger.Level(rawValue: $0) } ?? .critical
        return try MeshNode(configuration: configuration, logger: logger)
    }

    var isRunning: Bool { running != nil }

    func start() async throws {
        if running != nil { return }
        let node = node
        running = Task { try await node.run() }
        try await MeshNodeTests.eventually("\(configuration.node.name) is ready") { await node.notReady() == nil }
    }

    func stop() async {
        running?.cancel()
        _ = try? await running?.value
        running = nil
    }

    func restart(_ change: (inout Configuration) -> Void = { _ in }) async throws {
        await stop()
        change(&configuration)
        node = try Self.make(configuration)
        try await start()
    }

    func read(_ flist: String, _ path: String) async throws -> [UInt8] {
        let file = try await node.file(flist, path: Array(("/" + path).utf8))
        var out: [UInt8] = []
        while UInt64(out.count) < file.size {
            let (buffer, range) = try await file.read(at: UInt64(out.count), atMost: Int(file.size) - out.count)
            guard !range.isEmpty else { break }
            buffer.withBytes { out += $0[range] }
        }
        return out
    }

    /// Waits for the job's end.
    func finished(_ job: Job, within seconds: Double = 60) async throws -> Job {
        let job = try await node.job(job.id, wait: .seconds(seconds))
        #expect(job.state == .done, "\(job)")
        return job
    }

    var upstreamChunks: Int { Int(node.parts.counters.snapshot.upstream.chunks) }
    func holds(_ packed: Packed) -> Int { packed.chunks.count { node.parts.store.contains($0) } }
}

/// Bytes that do not compress, the same for the same seed.
func random(_ count: Int, seed: UInt64) -> [UInt8] {
    var state = seed
    var words: [UInt64] = []
    for _ in 0..<(count + 7) / 8 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        words.append(z ^ (z >> 31))
    }
    return words.withUnsafeBytes { Array($0.prefix(count)) }
}

/// Waits for a condition; fails the test when it does not come true.
func eventually(
    _ what: String, within seconds: Double = 30, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async -> Bool
) async throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while !(await condition()) {
        try #require(ContinuousClock.now < end, "not in time: \(what)", sourceLocation: sourceLocation)
        try await Task.sleep(for: .milliseconds(5))
    }
}
