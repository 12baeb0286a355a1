import Foundation
import Synchronization
import Testing

/// A directory, and the programs that a test starts; all of them go with `withBench`.
final class Bench: Sendable {
    let path: String
    private let state = Mutex((programs: [Program](), count: 0))

    init() throws {
        // Short: a path of a Unix socket has 107 bytes at most.
        path = "/tmp/cm-e2e-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    func sub(_ name: String) -> String { path + "/" + name }

    @discardableResult
    func start(_ executable: String, _ arguments: [String], environment: [String: String] = [:]) throws -> Program {
        let number = state.withLock { state in
            state.count += 1
            return state.count
        }
        let program = try Program(
            executable, arguments, environment: environment, files: sub("run-\(number)"), directory: path)
        state.withLock { $0.programs.append(program) }
        return program
    }

    @discardableResult
    func run(
        _ executable: String, _ arguments: [String], within limit: Duration = .seconds(40), _ place: SourceLocation = #_sourceLocation
    ) async throws -> Outcome {
        await (try start(executable, arguments)).outcome(within: limit, place)
    }

    /// `chunkmesh` without a daemon.
    func alone(_ arguments: String..., at place: SourceLocation = #_sourceLocation) async throws -> Outcome {
        try await run("chunkmesh", arguments + ["--api", "unix:\(sub("no.sock"))"], place)
    }

    func close() async {
        let programs = state.withLock { $0.programs }
        for program in programs { program.signal(SIGKILL) }
        for program in programs { _ = await program.outcome(within: .seconds(10)) }
        let remove = try? Program(
            "/bin/sh", ["-c", "chmod -R u+rwx \"$0\" 2>/dev/null; rm -rf \"$0\"", path], files: path + "-rm", directory: "/")
        _ = await remove?.outcome()
        for suffix in ["-rm.out", "-rm.err"] { unlink(path + suffix) }
    }

    // MARK: Parts

    /// A daemon that answers.
    func daemon(
        _ name: String = "n1", key: String? = nil, seeds: [Daemon] = [], settings: [String: String] = [:],
        at place: SourceLocation = #_sourceLocation
    ) async throws -> Daemon {
        let daemon = try Daemon(bench: self, name: name, key: key, seeds: seeds, settings: settings)
        try await daemon.start(place)
        return daemon
    }

    /// `chunkmesh hub serve` over `DIR/hub`.
    @discardableResult
    func hub(port: Int, directory: String? = nil) async throws -> Program {
        let directory = directory ?? sub("hub")
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let hub = try start("chunkmesh", ["hub", "serve", directory, "--listen", "127.0.0.1:\(port)"])
        try await eventually("the hub listens: \(hub.errors)") { hub.errors.contains("hub listens on http://127.0.0.1:\(port)") }
        return hub
    }

    /// The misbehaving hub; its URLs are `http://127.0.0.1:PORT/BEHAVIOUR`.
    func flakyHub() async throws -> Int {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Support/flaky_hub.py").path
        // Its stdin stays open for as long as the shell sleeps.
        let hub = try start("/bin/sh", ["-c", "exec 3<>\"$1\"; exec python3 \"$2\" \"$3\" <&3", "sh", try pipe(), script, sub("hub")])
        try await eventually("the flaky hub listens: \(hub.errors)") { self.port(of: hub) != nil }
        return try #require(port(of: hub))
    }

    private func pipe() throws -> String {
        let path = sub("pipe-\(UInt32.random(in: 0 ... .max))")
        try #require(mkfifo(path, 0o600) == 0)
        return path
    }

    private func port(of program: Program) -> Int? {
        (try? String(contentsOfFile: program.outputFile, encoding: .utf8)).flatMap {
            Int($0.trimmingCharacters(in: .whitespacesAndNewlines))
        }
    }

    /// Packs `files` files of `bytes` incompressible bytes into `hub/NAME.fl` and its store `hub`.
    ///
    /// - Returns: the flist, and the directory that it was made of.
    func pack(_ name: String = "image", files: Int, bytes: Int, route: String) async throws -> (flist: String, tree: String) {
        let tree = sub(name + "-tree")
        try FileManager.default.createDirectory(atPath: tree + "/sub", withIntermediateDirectories: true)
        var generator = SystemRandomNumberGenerator()
        for number in 0..<files {
            let words = (0..<(bytes + 7) / 8).map { _ in UInt64.random(in: 0 ... .max, using: &generator) }
            let content = words.withUnsafeBytes { Data($0.prefix(bytes)) }
            try content.write(to: URL(fileURLWithPath: "\(tree)/\(number % 2 == 0 ? "" : "sub/")file-\(number)"))
        }
        try FileManager.default.createDirectory(atPath: sub("hub"), withIntermediateDirectories: true)
        let flist = sub("hub/\(name).fl")
        let packed = try await run(
            "chunkmesh", ["flist", "pack", tree, "-o", flist, "--store", "dir://" + sub("hub"), "--route", route, "--json"])
        #expect(packed.status == 0, "\(packed.errors)")
        return (flist, tree)
    }

    /// Files of chunks in the hub's store.
    func chunkFiles(in directory: String) throws -> [String] {
        let names = try FileManager.default.subpathsOfDirectory(atPath: directory)
        return names.filter { ($0 as NSString).lastPathComponent.count == 64 }.map { directory + "/" + $0 }.sorted()
    }

    func key() async throws -> String {
        let made = try await run("chunkmesh", ["key", "generate"])
        #expect(made.status == 0)
        let file = sub("key-\(UInt32.random(in: 0 ... .max))")
        try write(made.bytes, to: file, mode: 0o600)
        return file
    }

    func write(_ bytes: [UInt8], to file: String, mode: mode_t) throws {
        try Data(bytes).write(to: URL(fileURLWithPath: file))
        try #require(chmod(file, mode) == 0)
    }

    /// Whether two trees hold the same names and contents.
    func expectSame(_ one: String, _ other: String, _ place: SourceLocation = #_sourceLocation) async throws {
        let difference = try await run("/usr/bin/diff", ["-r", one, other])
        #expect(difference.status == 0, "\(difference.text.prefix(300))", sourceLocation: place)
    }
}

func withBench(_ body: (Bench) async throws -> Void) async throws {
    let bench = try Bench()
    do {
        try await body(bench)
    } catch {
        await bench.close()
        throw error
    }
    await bench.close()
}

/// Ports for TCP and UDP below those that the system hands out.
enum Ports {
    private static let next = Mutex(20_000 + Int(getpid()) % 97 * 100)

    static func free() -> Int {
        next.withLock { next in
            while true {
                next = next >= 31_000 ? 20_000 : next + 1
                if [SOCK_STREAM, SOCK_DGRAM].allSatisfy({ isFree(next, Int32($0.rawValue)) }) { return next }
            }
        }
    }

    private static func isFree(_ port: Int, _ type: Int32) -> Bool {
        let descriptor = socket(AF_INET, type, 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}
