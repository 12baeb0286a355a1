import Foundation
import Synchronization
import Testing

/// What a program that has ended left behind.
struct Outcome: Sendable {
    let status: Int32
    let bytes: [UInt8]
    let errors: String
    let seconds: Double

    var text: String { String(decoding: bytes, as: UTF8.self) }
    var lines: [String] { text.split(separator: "\n").map(String.init) }
    var errorLines: [String] { errors.split(separator: "\n").map(String.init) }

    /// The one JSON document that stdout holds.
    func json(_ place: SourceLocation = #_sourceLocation) throws -> JSON {
        do {
            return try JSON(bytes)
        } catch {
            Issue.record("stdout is not one JSON document: \(text.prefix(300)), stderr: \(errors.prefix(300))", sourceLocation: place)
            throw error
        }
    }
}

/// A running program; its output goes to files, so that nobody has to read it along.
final class Program: Sendable {
    private struct State {
        var status: Int32?
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    let pid: Int32
    let outputFile: String
    private let arguments: [String]
    private let errorFile: String
    private let started = ContinuousClock.now
    private let state = Mutex(State())

    /// The folder that the build puts programs and the test bundle into.
    static let folder: String = {
        let places = [CommandLine.arguments[0], (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""]
        let bundle = Bundle(for: Program.self).bundleURL
        let folders = [bundle, bundle.deletingLastPathComponent()] + places.map { URL(fileURLWithPath: $0).deletingLastPathComponent() }
        return folders.map(\.path).first { FileManager.default.isExecutableFile(atPath: $0 + "/chunkmeshd") } ?? "."
    }()

    /// - Parameters:
    ///   - executable: a path, or the name of a program of this package.
    ///   - files: where stdout and stderr go, with `.out` and `.err` appended.
    init(_ executable: String, _ arguments: [String], environment: [String: String] = [:], files: String, directory: String) throws {
        (outputFile, errorFile, self.arguments) = (files + ".out", files + ".err", arguments)
        let path = executable.hasPrefix("/") ? executable : Self.folder + "/" + executable
        // How a sanitizer shall report is said to the test run; its programs must hear it too.
        let inherited = ProcessInfo.processInfo.environment.filter { ["ASAN_OPTIONS", "TSAN_OPTIONS", "LD_PRELOAD"].contains($0.key) }
        let surroundings = ["PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": directory, "TMPDIR": directory]
            .merging(inherited) { $1 }.merging(environment) { $1 }
        pid = try Self.spawn(
            path, [path] + arguments, surroundings.map { "\($0.key)=\($0.value)" }, output: outputFile, errors: errorFile)
        Thread.detachNewThread { [self] in
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0, errno == EINTR {}
            end(status & 0x7f == 0 ? status >> 8 & 0xff : 128 + (status & 0x7f))
        }
    }

    /// Starts a program with a fresh set of signals and no descriptors but the first three.
    private static func spawn(
        _ path: String, _ arguments: [String], _ environment: [String], output: String, errors: String
    ) throws -> pid_t {
        var files = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&files)
        defer { posix_spawn_file_actions_destroy(&files) }
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&files, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_addopen(&files, 2, errors, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        // Not in the headers that Swift sees; without it, the test's own descriptors would live on in the programs.
        typealias CloseFrom = @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, Int32) -> Int32
        let closeFrom = try #require(dlsym(nil, "posix_spawn_file_actions_addclosefrom_np"))
        _ = unsafeBitCast(closeFrom, to: CloseFrom.self)(&files, 3)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        let argv = arguments.map { strdup($0) } + [nil]
        let envp = environment.map { strdup($0) } + [nil]
        defer { for text in argv + envp { free(text) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, path, &files, &attributes, argv, envp)
        try #require(code == 0, "\(path): \(String(cString: strerror(code)))")
        return pid
    }

    private func end(_ status: Int32) {
        let waiters = state.withLock { state in
            state.status = status
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    var isRunning: Bool { state.withLock { $0.status == nil } }
    var errors: String { (try? String(contentsOfFile: errorFile, encoding: .utf8)) ?? "" }

    func signal(_ number: Int32) { if isRunning { kill(pid, number) } }

    /// Waits for the end; what takes longer than `limit` is killed, and the test fails.
    func outcome(within limit: Duration = .seconds(40), _ place: SourceLocation = #_sourceLocation) async -> Outcome {
        let timer = Task { [self] in
            try await Task.sleep(for: limit)
            Issue.record("\(arguments) did not end within \(limit): \(errors.suffix(500))", sourceLocation: place)
            signal(SIGKILL)
        }
        defer { timer.cancel() }
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                if state.status == nil { state.waiters.append(continuation) }
                return state.status != nil
            }
            if isOver { continuation.resume() }
        }
        return Outcome(
            status: state.withLock { $0.status ?? -1 }, bytes: [UInt8](FileManager.default.contents(atPath: outputFile) ?? Data()),
            errors: errors, seconds: (ContinuousClock.now - started) / .seconds(1))
    }
}

/// Waits until `condition` holds, at most `limit`; fails the test otherwise.
func eventually(
    within limit: Duration = .seconds(30), _ what: String, _ place: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + limit
    while ContinuousClock.now < end {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(50))
    }
    try #require(Bool(false), "not within \(limit): \(what)", sourceLocation: place)
}
