import ArgumentParser
import ChunkModel
import Flist
import FlistTools

extension FlistCommand {
    struct Routes: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lists an flist's routes, or changes them.",
            usage: """
                chunkmesh flist routes FLIST [--json]
                chunkmesh flist routes FLIST add [XX-YY=]URL ... [-o OUT.fl]
                chunkmesh flist routes FLIST remove [XX-YY=]URL ... [-o OUT.fl]
                chunkmesh flist routes FLIST clear [-o OUT.fl]
                """,
            discussion: """
                XX-YY are first bytes of chunk ids in hex, both ends inclusive; without them a route is for all chunks, and remove takes out \
                every route of that URL. A change writes the flist anew and puts it in the place of the old one, or at OUT.fl. Its digest is \
                another one then, and a signature must be made again; chunks stay where they are.
                """)

        @Argument(help: "Local file, http(s) URL, or known name; a local file to change.") var flist: String
        @Argument(help: "add [XX-YY=]URL ..., remove [XX-YY=]URL ... or clear") var change: [String] = []
        @Option(name: .shortAndLong, help: ArgumentHelp("Write there, and leave the original as it is.", valueName: "OUT.fl"))
        var output: String?
        @Flag(help: "Record passwords that stand in URLs.") var keepPasswords = false
        @OptionGroup var options: APIOptions

        func validate() throws {
            do { _ = try changes() } catch let error as ToolError { throw ValidationError(error.message) }
        }

        private func changes() throws -> RouteChanges? {
            guard let verb = change.first else {
                if output != nil { throw ValidationError("-o goes with add, remove or clear") }
                return nil
            }
            let words = change.dropFirst()
            switch verb {
            case "clear":
                if !words.isEmpty { throw ValidationError("clear takes nothing more") }
                return RouteChanges(clear: true)
            case "add", "remove":
                if words.isEmpty { throw ValidationError("\(verb) takes [XX-YY=]URL") }
                let routes = try words.map { (word: $0, route: try PackStore.split($0)) }
                if verb == "remove" {
                    // What has no range of its own means all of that URL.
                    return RouteChanges(remove: routes.map { ($0.route.rest == $0.word ? nil : $0.route.range, $0.route.rest) })
                }
                return RouteChanges(
                    add: routes.map { _, route in
                        Route(
                            range: ChunkRange(firstBytes: route.range),
                            url: keepPasswords ? route.rest : PackStore.withoutPassword(route.rest))
                    })
            default: throw ValidationError("add, remove or clear, not \(verb)")
            }
        }

        func run() async throws {
            guard let changes = try changes() else { return try await list() }
            try await FlistRewriting.run(flist, output: output, json: options.json) { flist in
                (flist.tags, try changes.applied(to: flist.routes))
            }
        }

        private func list() async throws {
            let local = FlistName.localFile(flist) != nil
            let access = try await FlistAccess.open(flist, stores: [], client: local ? nil : try options.client())
            let routes = access.flist.routes.map { RouteLine($0) }
            if options.json { return try Terminal.json(["routes": routes]) }
            for route in routes { Terminal.out(route.line) }
            for note in access.flist.notes { Terminal.error("chunkmesh: note: \(note)") }
        }
    }
}

/// A route as it is shown: without its password.
struct RouteLine: Encodable {
    /// First bytes of ids, both ends inclusive.
    let start: UInt8
    let end: UInt8
    /// The whole range in hex, which legacy flists may tell in more bytes.
    let range: String
    let url: String
    let tier: Int
    let cache: Bool

    init(_ route: Route) {
        (start, end) = (route.range.firstBytes.lowerBound, route.range.firstBytes.upperBound)
        (range, url, tier, cache) = (route.range.description, PackStore.withoutPassword(route.url), route.tier, route.isCache)
    }

    /// One line for people.
    var line: String {
        "\(range) \(FlistPath.quoted(Array(url.utf8)))" + (tier > 0 ? " (tier \(tier))" : "") + (cache ? " (cache)" : "")
    }
}
