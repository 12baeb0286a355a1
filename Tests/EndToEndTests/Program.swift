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
final class Program: @unchecked Sendable {
    private struct State {
        var status: Int32?
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    let pid: Int32
    private let process = Process()
    let outputFile: String
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
        (outputFile, errorFile) = (files + ".out", files + ".err")
        for file in [outputFile, errorFile] { try Data().write(to: URL(fileURLWithPath: file)) }
        process.executableURL = URL(fileURLWithPath: executable.hasPrefix("/") ? executable : Self.folder + "/" + executable)
        process.arguments = arguments
        process.environment = ["PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": directory, "TMPDIR": directory].merging(environment) { $1 }
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle(forWritingAtPath: outputFile)
        process.standardError = FileHandle(forWritingAtPath: errorFile)
        let ended = Ended()
        process.terminationHandler = { ended.report($0.terminationReason == .exit ? $0.terminationStatus : 128 + $0.terminationStatus) }
        try process.run()
        pid = process.processIdentifier
        ended.tell { [weak self] in self?.end($0) }
    }

    /// A program may end before anybody can be told.
    private final class Ended: Sendable {
        private let state = Mutex<(status: Int32?, tell: (@Sendable (Int32) -> Void)?)>((nil, nil))

        func report(_ status: Int32) {
            state.withLock { state in
                state.status = status
                return state.tell
            }?(status)
        }

        func tell(_ body: @escaping @Sendable (Int32) -> Void) {
            let status = state.withLock { state in
                state.tell = body
                return state.status
            }
            if let status { body(status) }
        }
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
            Issue.record("\(process.arguments ?? []) did not end within \(limit): \(errors.suffix(500))", sourceLocation: place)
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
