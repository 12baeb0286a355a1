import BlockCodec
import ChunkModel
import Flist
import FlistTools
import Foundation
import Synchronization
import Testing

/// The common test data: `shared/fixtures` beside the package, or where CHUNKMESH_FIXTURES says.
enum Fixtures {
    static let root: String = {
        if let given = ProcessInfo.processInfo.environment["CHUNKMESH_FIXTURES"] { return given }
        let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        for base in [package, package.deletingLastPathComponent()] {
            let path = base.deletingLastPathComponent().appendingPathComponent("shared/fixtures").path
            if FileManager.default.fileExists(atPath: path) { return path }
        }
        return package.deletingLastPathComponent().appendingPathComponent("shared/fixtures").path
    }()

    static func path(_ relative: String) throws -> String {
        let path = root + "/" + relative
        try #require(FileManager.default.fileExists(atPath: path), "no fixture \(path): set CHUNKMESH_FIXTURES to the fixtures' directory")
        return path
    }

    static func lines(_ relative: String) throws -> [String] {
        try String(contentsOfFile: path(relative), encoding: .utf8).split(separator: "\n").map(String.init)
    }

    struct Expectation: Codable, Sendable, CustomTestStringConvertible {
        let file: String
        let store: String
        let kind: String
        let paths: [String]
        let line: String
        var testDescription: String { "\(file) (\(kind))" }
    }

    static let expectations: [Expectation] = {
        guard let lines = try? lines("malformed/EXPECT.jsonl") else { return [] }
        return lines.compactMap { try? JSONDecoder().decode(Expectation.self, from: Data($0.utf8)) }
    }()
}

/// A directory that goes with the test.
final class Scratch {
    let path: String
    init() throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("flist-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit {
        // By the shell: trees deeper than PATH_MAX and directories without write permission too.
        let remove = Process()
        remove.executableURL = URL(fileURLWithPath: "/bin/sh")
        remove.arguments = ["-c", "chmod -R u+rwx \"$0\" 2>/dev/null; rm -rf \"$0\"", path]
        try? remove.run()
        remove.waitUntilExit()
    }
    func sub(_ name: String) -> String { path + "/" + name }
}

/// Plain blocks of a directory store. The last one is remembered: one of the fixtures names the same block 2,000 times.
func reader(store: String) throws -> PlainBlockSource {
    let reader = BlockReader(DirStoreSource([DirStore(path: store)]))
    let last = Mutex<(ref: BlockRef, plain: ChunkBuffer)?>(nil)
    return { ref in
        if let kept = last.withLock({ $0?.ref == ref ? $0?.plain : nil }) { return kept }
        let plain = try await reader.plainBlock(ref)
        last.withLock { $0 = (ref, plain) }
        return plain
    }
}
