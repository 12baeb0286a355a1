import ChunkModel
import Flist
import FlistTools

extension Route {
    /// The routes of a command line, `[XX-YY=]URL` each.
    static func all(_ arguments: [String]) throws -> [Route] {
        try arguments.map { argument in
            let (range, url) = try PackStore.split(argument)
            return Route(range: ChunkRange(firstBytes: range), url: url)
        }
    }
}

extension FlistTag {
    /// The tags of a command line, `KEY=VALUE` each; what has no `=` was refused before.
    static func all(_ arguments: [String]) -> [FlistTag] {
        arguments.compactMap { text in
            text.firstIndex(of: "=").map { FlistTag(key: String(text[..<$0]), value: String(text[text.index(after: $0)...])) }
        }
    }
}
