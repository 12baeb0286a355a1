import Foundation
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

    /// What shall come of a malformed flist.
    struct Expectation: Decodable, Sendable {
        let file: String
        let store: String
        /// `reject`, `entry`, `accept` or `either`.
        let kind: String
        let paths: [String]
    }

    static func expectations() throws -> [Expectation] {
        try lines("malformed/EXPECT.jsonl").map { try JSONDecoder().decode(Expectation.self, from: Data($0.utf8)) }
    }

    static func lines(_ relative: String) throws -> [String] {
        try String(contentsOfFile: path(relative), encoding: .utf8).split(separator: "\n").map(String.init)
    }
}
