import Foundation
import Synchronization

/// A running script of Tests/Support that prints its port first; it ends with this object.
final class TestScript: Sendable {
    let port: Int
    private let process: Process
    private let pipes: (input: Pipe, output: Pipe)
    private let turn = Mutex(())

    static func start(_ name: String, _ arguments: [String] = []) async throws -> TestScript {
        try await offPool { try TestScript(name, arguments) }
    }

    private init(_ name: String, _ arguments: [String]) throws {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../Support/\(name)").path
        let python = FileManager.default.isExecutableFile(atPath: "/usr/bin/python3") ? "/usr/bin/python3" : "/usr/local/bin/python3"
        (process, pipes) = (Process(), (Pipe(), Pipe()))
        process.executableURL = URL(fileURLWithPath: python)
        process.arguments = [script] + arguments
        process.standardInput = pipes.input
        process.standardOutput = pipes.output
        try process.run()
        port = Int(Self.line(from: pipes.output)) ?? 0
        precondition(port > 0, "\(name) did not start")
    }

    deinit {
        try? pipes.input.fileHandleForWriting.close()
        process.terminate()
    }

    func ask(_ command: String) async throws -> String {
        try await offPool { [self] in
            try turn.withLock { _ in
                try pipes.input.fileHandleForWriting.write(contentsOf: Data("\(command)\n".utf8))
                return Self.line(from: pipes.output)
            }
        }
    }

    private static func line(from pipe: Pipe) -> String {
        var bytes: [UInt8] = []
        while let byte = try? pipe.fileHandleForReading.read(upToCount: 1)?.first, byte != UInt8(ascii: "\n") { bytes.append(byte) }
        return String(decoding: bytes, as: UTF8.self)
    }
}
