import ChunkModel
import Foundation

/// A running `flaky_hub.py` over a directory of its own; both go with this object.
final class FlakyHub: @unchecked Sendable {
    struct Stats: Decodable {
        let connections: Int
        let requests: Int
        let paths: [String]
        let headers: [String: String]
    }

    let directory: String
    let port: Int
    private let scheme: String
    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()

    static func start(certificate: (file: String, key: String)? = nil) async throws -> FlakyHub {
        try await offPool { try FlakyHub(certificate: certificate) }
    }

    private init(certificate: (file: String, key: String)?) throws {
        directory = try TestFiles.directory()
        scheme = certificate == nil ? "http" : "https"
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../Support/flaky_hub.py").path
        let python = FileManager.default.isExecutableFile(atPath: "/usr/bin/python3") ? "/usr/bin/python3" : "/usr/local/bin/python3"
        process.executableURL = URL(fileURLWithPath: python)
        process.arguments = [script, directory] + (certificate.map { [$0.file, $0.key] } ?? [])
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        port = Int(Self.line(from: output).trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
        precondition(port > 0, "the test hub did not start")
    }

    deinit {
        try? input.fileHandleForWriting.close()
        process.terminate()
        try? FileManager.default.removeItem(atPath: directory)
    }

    func url(_ behaviour: String) -> String { "\(scheme)://127.0.0.1:\(port)/\(behaviour)" }

    func stats() async throws -> Stats {
        try await offPool { [input, output] in
            try input.fileHandleForWriting.write(contentsOf: Data("stats\n".utf8))
            return try JSONDecoder().decode(Stats.self, from: Data(Self.line(from: output).utf8))
        }
    }

    private static func line(from pipe: Pipe) -> String {
        var bytes: [UInt8] = []
        while let byte = try? pipe.fileHandleForReading.read(upToCount: 1)?.first, byte != UInt8(ascii: "\n") { bytes.append(byte) }
        return String(decoding: bytes, as: UTF8.self)
    }
}

enum TestFiles {
    static func directory() throws -> String {
        let path = NSTemporaryDirectory() + "chunkmesh-upstream-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }

    /// Bytes that differ for each `seed`.
    static func content(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
        var generator = SeededGenerator(state: seed)
        let words = (0..<(count + 7) / 8).map { _ in generator.next() }
        return words.withUnsafeBytes { Array($0.prefix(count)) }
    }

    /// Writes a chunk into a store and says its id.
    @discardableResult
    static func store(_ bytes: [UInt8], below directory: String, flat: Bool = false) throws -> ChunkID {
        let id = bytes.withUnsafeBytes { ChunkID(ofStored: $0) }
        let folder = flat ? directory : "\(directory)/\(id.hex.prefix(2))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Data(bytes).write(to: URL(fileURLWithPath: "\(folder)/\(id.hex)"))
        return id
    }
}

/// Runs blocking work where it does not hold a thread that the code under test needs.
func offPool<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result(catching: body)) }
    }
}

/// Waits for `condition`, at most two seconds.
func eventually(_ condition: () async -> Bool) async -> Bool {
    for _ in 0..<400 {
        if await condition() { return true }
        try? await Task.sleep(for: .milliseconds(5))
    }
    return await condition()
}

/// SplitMix64: the same numbers for the same seed.
struct SeededGenerator: RandomNumberGenerator, Sendable {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
