import ArgumentParser
import ChunkModel
import FlistTools

extension FlistCommand {
    struct Convert: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes an .fl of a legacy .flist.",
            discussion: """
                Without --store no chunk moves: the .fl names the chunks that are there, by their ids of 16 bytes; chunkmesh reads it, rfs does \
                not. With --store all content is fetched, coded as rfs does, and stored there; then rfs reads it too. Passwords are not \
                recorded unless --keep-passwords says so.
                """)

        @Argument(help: "The legacy .flist, a local file.") var source: String
        @Option(name: .shortAndLong, help: ArgumentHelp("The flist to write.", valueName: "OUT.fl")) var output: String
        @Option(
            help: ArgumentHelp(
                "Code the content anew and store it there: [XX-YY=]URL, as with flist pack. May be repeated.", valueName: "URL"))
        var store: [String] = []
        @Option(
            help: ArgumentHelp(
                "With --store: read the old chunks from there instead of the flist's own routes. May be repeated.", valueName: "URL"))
        var from: [String] = []
        @Option(
            help: ArgumentHelp("[XX-YY=]URL to record in place of the flist's routes, or the stores. May be repeated.", valueName: "URL"))
        var route: [String] = []
        @Option(help: "With --store. rfs: every reader knows it. zstd: smaller, for chunkmesh only; a tag says so.")
        var blockCodec: Pack.Codec = .rfs
        @Flag(help: "Record passwords that stand in URLs.") var keepPasswords = false
        @Flag(help: "One JSON document on stdout.") var json = false

        func validate() throws {
            if store.isEmpty, !from.isEmpty || blockCodec != .rfs { throw ValidationError("--from and --block-codec go with --store") }
        }

        func run() async throws {
            let routes = try route.map { argument in
                let (range, url) = try PackStore.split(argument)
                return Route(range: ChunkRange(firstBytes: range), url: url)
            }
            guard let path = FlistName.localFile(source) else { throw ToolError("\(Terminal.quoted(source)): no such file") }
            guard try await LegacyConversion.applies(to: path) else { throw ToolError("\(Terminal.quoted(source)): not a legacy .flist") }
            if store.isEmpty {
                return try await LegacyConversion.keepingChunks(path, to: output, routes: routes, keepPasswords: keepPasswords, json: json)
            }
            var session = PackSession.Options(output: output, stores: try store.map { try PackStore(argument: $0, open: Stores.openSink) })
            (session.routes, session.keepPasswords, session.coding) = (routes, keepPasswords, blockCodec.coding)
            try await LegacyConversion.recoding(path, session, from: from, json: json)
        }
    }
}
