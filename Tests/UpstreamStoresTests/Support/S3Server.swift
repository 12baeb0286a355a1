import ChunkModel
import Foundation
import Synchronization

@testable import UpstreamStores

/// A running `s3_server.py`: moto behind a gate that checks signatures with botocore. One for all tests, since it takes seconds to start.
final class S3Server: Sendable {
    static let access = "chunkmesh"
    /// With characters that must be escaped in a URL.
    static let secret = "s3cr/et+key="
    static let escapedSecret = "s3cr%2Fet%2Bkey%3D"

    let port: Int
    private let process: Process
    private let pipes: (input: Pipe, output: Pipe)
    private let turn = Mutex(())

    private static let shared = Mutex<Result<S3Server, any Error>?>(nil)

    static func running() async throws -> S3Server {
        try await offPool {
            try shared.withLock { shared in
                let server = shared ?? Result { try S3Server() }
                shared = server
                return try server.get()
            }
        }
    }

    /// The Python that has moto and boto3: the one of scripts/test, or the system's; `nil` when none has.
    static let python: String? = {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../..").standardizedFileURL.path
        let candidates = ["\(root)/.build/test-python/bin/python3", "/usr/bin/python3", "/usr/local/bin/python3"]
        let inPath = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/python3" }
        let found = (candidates + inPath).first { path in
            guard FileManager.default.isExecutableFile(atPath: path) else { return false }
            let process = Process()
            process.executableURL = URL(fileURLWithPath: path)
            process.arguments = ["-c", "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ['moto', 'boto3', 'flask'])))"]
            process.standardError = FileHandle.nullDevice
            guard (try? process.run()) != nil else { return false }
            process.waitUntilExit()
            return process.terminationStatus == 0
        }
        if found == nil { print("S3 tests are skipped: no Python here has moto and boto3; scripts/test installs them") }
        return found
    }()

    private init() throws {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../Support/s3_server.py").path
        (process, pipes) = (Process(), (Pipe(), Pipe()))
        process.executableURL = URL(fileURLWithPath: Self.python ?? "/usr/bin/python3")
        process.arguments = [script]
        process.standardInput = pipes.input
        process.standardOutput = pipes.output
        process.standardError = FileHandle.nullDevice
        try process.run()
        port = Int(Self.line(from: pipes.output)) ?? 0
        precondition(port > 0, "the S3 server did not start")
    }

    /// Sends a command to the reference client, and returns its answer.
    func ask(_ command: String) async throws -> String {
        try await offPool { [self] in
            try turn.withLock { _ in
                try pipes.input.fileHandleForWriting.write(contentsOf: Data("\(command)\n".utf8))
                return Self.line(from: pipes.output)
            }
        }
    }

    func url(_ bucket: String, keys: String? = "\(access):\(escapedSecret)", query: String = "") -> String {
        "s3://\(keys.map { "\($0)@" } ?? "")127.0.0.1:\(port)/\(bucket)\(query)"
    }

    private static func line(from pipe: Pipe) -> String {
        var bytes: [UInt8] = []
        while let byte = try? pipe.fileHandleForReading.read(upToCount: 1)?.first, byte != UInt8(ascii: "\n") { bytes.append(byte) }
        return String(decoding: bytes, as: UTF8.self)
    }
}
