import Foundation
import Minisign
import Testing

/// A directory of its own, gone with its last reference.
final class Folder: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "minisign-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func sub(_ name: String) -> String { path + "/" + name }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: sub(name)))
        return sub(name)
    }

    func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(fileURLWithPath: sub(name)))) }
}

/// Debian's minisign, by another author: what both agree on is the format.
enum DebianMinisign {
    static let path = "/usr/bin/minisign"
    static var isThere: Bool { FileManager.default.isExecutableFile(atPath: path) }

    /// - Parameter input: what is typed: passwords, each with a line end.
    @discardableResult
    static func run(_ arguments: String..., input: String = "") throws -> (status: Int32, text: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        let (typed, shown) = (Pipe(), Pipe())
        (process.standardInput, process.standardOutput, process.standardError) = (typed, shown, shown)
        try process.run()
        typed.fileHandleForWriting.write(Data(input.utf8))
        try typed.fileHandleForWriting.close()
        let text = String(decoding: shown.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }
}

/// Signs in one go.
func sign(_ key: MinisignSecretKey, _ path: String, untrusted: String = "u", trusted: String = "t") throws -> MinisignSignature {
    try key.sign(digest: try MinisignFile.digest(of: path), untrustedComment: untrusted, trustedComment: trusted)
}

func verifies(_ bytes: [UInt8], _ signature: MinisignSignature, _ key: MinisignPublicKey, pieces: Int = 1 << 20) throws -> Bool {
    let verification = try MinisignVerification(signature, by: key)
    for start in stride(from: 0, to: bytes.count, by: pieces) {
        bytes[start..<min(start + pieces, bytes.count)].withUnsafeBytes { verification.update($0) }
    }
    do { try verification.finish() } catch { return false }
    return true
}

func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed
    return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 33)
    }
}
