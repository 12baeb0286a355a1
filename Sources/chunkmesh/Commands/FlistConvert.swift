import ArgumentParser
import BlockCodec
import ChunkModel
import Flist
import FlistTools

extension FlistCommand {
    struct Convert: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes an flist of a container image: an archive of docker save, or an OCI layout.",
            discussion: """
                IMAGE is a file (docker save IMAGE -o FILE, or an archive of an OCI layout; also compressed) or the directory of an OCI layout. \
                Its layers are put upon each other as overlay file systems do, with whiteouts; what is hidden is not stored. Entrypoint, \
                environment and the like become tags (image.entrypoint, image.env, ...). Digests are checked before there is an flist.
                """)

        @Argument(help: "Archive or directory with the image.") var image: String
        @Option(name: .shortAndLong, help: ArgumentHelp("The flist to write.", valueName: "OUT.fl")) var output: String
        @Option(
            help: ArgumentHelp(
                "[XX-YY=]URL of a directory (dir:///path, or a path), zdb, redis, s3, s3s or server; XX-YY: first bytes of chunk ids, in hex. May be repeated.",
                valueName: "URL"))
        var store: [String]
        @Option(help: ArgumentHelp("[XX-YY=]URL to record in place of the stores' own. May be repeated.", valueName: "URL")) var route:
            [String] = []
        @Option(help: ArgumentHelp("KEY=VALUE to record. May be repeated.", valueName: "TAG")) var tag: [String] = []
        @Option(name: .customLong("image"), help: ArgumentHelp("Which one, where there are several.", valueName: "NAME[:TAG]")) var name:
            String?
        @Option(
            help: ArgumentHelp("Default: this machine's, where there are images for several.", valueName: "OS/ARCH[/VARIANT]"),
            transform: { text in
                guard let platform = ImagePlatform(text) else { throw ValidationError("a platform is OS/ARCH or OS/ARCH/VARIANT") }
                return platform
            })
        var platform: ImagePlatform?
        @Option(help: "rfs: every reader knows it. zstd: smaller, for chunkmesh only; a tag says so.") var blockCodec: Pack.Codec = .rfs
        @Option(help: "Entries of all layers that are read at most.") var maxEntries = ImageLimits().entries
        @Option(help: ArgumentHelp("Bytes of all layers, without compression, that are read at most.", valueName: "bytes"))
        var maxBytes = ImageLimits().bytes
        @Flag(help: "Record passwords that stand in URLs.") var keepPasswords = false
        @Flag(help: "One JSON document on stdout.") var json = false

        func validate() throws {
            if store.isEmpty { throw ValidationError("--store says where the content goes, such as dir:///srv/hub") }
            for tag in tag where !tag.contains("=") { throw ValidationError("--tag takes KEY=VALUE, not \(tag)") }
            guard maxEntries > 0, maxBytes > 0 else { throw ValidationError("--max-entries and --max-bytes take numbers above 0") }
        }

        func run() async throws {
            var session = PackSession.Options(output: output, stores: try store.map { try PackStore(argument: $0, open: Stores.openSink) })
            session.routes = try route.map { argument in
                let (range, url) = try PackStore.split(argument)
                return Route(range: ChunkRange(firstBytes: range), url: url)
            }
            session.tags = tag.map { text in
                let equals = text.firstIndex(of: "=")!
                return FlistTag(key: String(text[..<equals]), value: String(text[text.index(after: equals)...]))
            }
            session.keepPasswords = keepPasswords
            session.coding = blockCodec.coding
            var options = ImageOptions(image: image, session: session)
            (options.name, options.platform) = (name, platform)
            (options.limits.entries, options.limits.bytes) = (maxEntries, maxBytes)
            try await ImageConversion.run(options, json: json)
        }
    }
}
