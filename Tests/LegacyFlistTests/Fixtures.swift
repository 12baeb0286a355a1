import BlockCodec
import ChunkModel
import Flist
import FlistTools
import Foundation
import LegacyFlist
import Testing

/// The common test data: `shared/fixtures` beside the package, or where CHUNKMESH_FIXTURES says.
enum Fixtures {
    static let root: String = {
        if let given = ProcessInfo.processInfo.environment["CHUNKMESH_FIXTURES"] { return given }
        let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let above = [package.deletingLastPathComponent(), package.deletingLastPathComponent().deletingLastPathComponent()]
        let places = above.map { $0.appendingPathComponent("shared/fixtures").path }
        return places.first { FileManager.default.fileExists(atPath: $0) } ?? places[0]
    }()

    static func path(_ relative: String) throws -> String {
        let path = root + "/" + relative
        try #require(FileManager.default.fileExists(atPath: path), "no fixture \(path): set CHUNKMESH_FIXTURES to the fixtures' directory")
        return path
    }

    static func lines(_ relative: String) throws -> [String] {
        try String(contentsOfFile: path(relative), encoding: .utf8).split(separator: "\n").map(String.init)
    }

    /// What shall come of a malformed legacy flist.
    struct Expectation: Codable, Sendable, CustomTestStringConvertible {
        let file: String
        let blocks: String
        /// `accept`, `error` or `either`.
        let kind: String
        let line: String
        var testDescription: String { "\(file) (\(kind))" }
    }

    static let expectations: [Expectation] = {
        guard let lines = try? lines("malformed-legacy/EXPECT.jsonl") else { return [] }
        return lines.compactMap { try? JSONDecoder().decode(Expectation.self, from: Data($0.utf8)) }
    }()

    /// The lines by the path that they are about.
    static func entries(_ lines: [String]) throws -> [String: String] {
        var out: [String: String] = [:]
        for line in lines {
            let start = try #require(line.range(of: "\"path\": \"")).upperBound
            let end = try #require(line[start...].range(of: "\", \"")?.lowerBound)
            out[String(line[start..<end])] = line
        }
        return out
    }
}

/// A directory that goes with the test.
final class Scratch {
    let path: String
    init() throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("legacy-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    func sub(_ name: String) -> String { path + "/" + name }
    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }

    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: sub(name)))
        return sub(name)
    }
}

func openFlist(_ path: String) throws -> FlistFile {
    let scratch = try Scratch()
    let flist = try FlistFormat.open(path: path, scratch: scratch.path)
    #expect(scratch.names.isEmpty, "temporary files are left: \(scratch.names)")
    return flist
}

func reader(store: String) throws -> PlainBlockSource {
    let reader = BlockReader(DirStoreSource([DirStore(path: store)]))
    return { try await reader.plainBlock($0) }
}
