import Foundation
import Testing

/// A JSON document, looked into by paths such as `flists[0].node.chunks`.
enum JSON: Decodable, Sendable, Equatable {
    case null
    case bool(Bool)
    case number(Double)
    case text(String)
    case list([JSON])
    case object([String: JSON])

    init(_ bytes: [UInt8]) throws { self = try JSONDecoder().decode(JSON.self, from: Data(bytes)) }

    init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if value.decodeNil() {
            self = .null
        } else if let it = try? value.decode(Bool.self) {
            self = .bool(it)
        } else if let it = try? value.decode(Double.self) {
            self = .number(it)
        } else if let it = try? value.decode(String.self) {
            self = .text(it)
        } else if let it = try? value.decode([JSON].self) {
            self = .list(it)
        } else {
            self = .object(try value.decode([String: JSON].self))
        }
    }

    subscript(_ path: String) -> JSON? {
        var here: JSON? = self
        for part in path.split(separator: ".") {
            let pieces = part.split(separator: "[")
            if case .object(let fields) = here { here = fields[String(pieces[0])] } else { return nil }
            for piece in pieces.dropFirst() {
                guard case .list(let list) = here, let index = Int(piece.dropLast()), list.indices.contains(index) else { return nil }
                here = list[index]
            }
        }
        return here
    }

    func number(_ path: String) -> Double {
        if case .number(let it)? = self[path] { return it }
        return .nan
    }

    func int(_ path: String) -> Int { Int(exactly: number(path)) ?? Int.min }

    func text(_ path: String) -> String {
        if case .text(let it)? = self[path] { return it }
        return "(no \(path))"
    }

    func bool(_ path: String) -> Bool? {
        if case .bool(let it)? = self[path] { return it }
        return nil
    }

    func list(_ path: String) -> [JSON] {
        if case .list(let it)? = self[path] { return it }
        return []
    }

    /// Fails the test for each field that is missing.
    func expect(_ fields: String..., at place: SourceLocation = #_sourceLocation) {
        for field in fields where self[field] == nil { Issue.record("the JSON lacks \(field): \(self)", sourceLocation: place) }
    }
}
