import ArgumentParser
import BlockCodec
import ChunkModel
import Flist
import FlistTools

extension FlistCommand {
    struct Convert: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes an .fl of a legacy .flist, or of a container image.",
            discussion: """
                A legacy .flist without --store: no chunk moves, the .fl names the chunks that are there by their ids of 16 bytes; chunkmesh reads \
                it, rfs does not. With --store all content is fetched, coded as rfs does, and stored there; then rfs reads it too.
                A container image is a file (docker save IMAGE -o FILE, or an archive of an OCI layout; also compressed) or the directory of an \
                OCI layout. Its layers are put upon each other as overlay file systems do, with whiteouts; what is hidden is not stored. \
                Entrypoint, environment and the like become tags (image.entrypoint, image.env, ...). Digests are checked before there is an flist.
                Passwords are not recorded unless --keep-passwords says so.
                """)

        @Argument(help: "A legacy .flist, an archive with an image, or the directory of an OCI layout.") var source: String
        @Option(name: .shortAndLong, help: ArgumentHelp("The flist to write.", valueName: "OUT.fl")) var output: String
        @Option(
            help: ArgumentHelp(
                "[XX-YY=]URL of a directory (dir:///path, or a path), zdb, redis, s3, s3s or server; XX-YY: first bytes of chunk ids, in hex. May be repeated.",
                valueName: "URL"))
        var store: [String] = []
        @Option(
            help: ArgumentHelp(
                "Read the chunks of a legacy .flist from there instead of its own routes. May be repeated.", valueName: "URL"))
        var from: [String] = []
        @Option(
            help: ArgumentHelp("[XX-YY=]URL to record in place of the stores' own, or the flist's. May be repeated.", valueName: "URL"))
        var route: [String] = []
        @Option(help: ArgumentHelp("KEY=VALUE to record. May be repeated.", valueName: "TAG")) var tag: [String] = []
        @Option(help: ArgumentHelp("Which image, where there are several.", valueName: "NAME[:TAG]")) var image: String?
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
            for tag in tag where !tag.contains("=") { throw ValidationError("--tag takes KEY=VALUE, not \(tag)") }
            if store.isEmpty, !from.isEmpty || !tag.isEmpty || blockCodec != .rfs {
                throw ValidationError("--from, --tag and --block-codec go with --store")
            }
            guard maxEntries > 0, maxBytes > 0 else { throw ValidationError("--max-entries and --max-bytes take numbers above 0") }
        }

        func run() async throws {
            let routes = try Route.all(route)
            if let path = FlistName.localFile(source), try await LegacyConversion.applies(to: path) {
                guard image == nil, platform == nil else {
                    throw ValidationError("--image and --platform are for container images; \(source) is a legacy .flist")
                }
                if store.isEmpty {
                    return try await LegacyConversion.keepingChunks(
                        path, to: output, routes: routes, keepPasswords: keepPasswords, json: json)
                }
                return try await LegacyConversion.recoding(path, try session(routes), from: from, json: json)
            }
            if let path = FlistName.localFile(source), (try? FlistFile(path: path)) != nil {
                throw ToolError("\(Terminal.quoted(source)): is an .fl already; flist clone copies its chunks to another store")
            }
            if store.isEmpty { throw ValidationError("--store says where the content of an image goes, such as dir:///srv/hub") }
            if !from.isEmpty { throw ValidationError("--from is for legacy flists") }
            var options = ImageOptions(image: source, session: try session(routes))
            (options.name, options.platform) = (image, platform)
            (options.limits.entries, options.limits.bytes) = (maxEntries, maxBytes)
            try await ImageConversion.run(options, json: json)
        }

        private func session(_ routes: [Route]) throws -> PackSession.Options {
            var session = PackSession.Options(output: output, stores: try PackStore.all(store))
            session.routes = routes
            session.tags = FlistTag.all(tag)
            session.keepPasswords = keepPasswords
            session.coding = blockCodec.coding
            return session
        }
    }
}
