import ArgumentParser
import FlistTools

extension FlistCommand {
    struct Unpack: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Extracts a whole flist into a directory.",
            discussion: """
                Works with and without a daemon. A bad entry is named and left out, and the rest goes on; exit status 1 then. Nothing that is \
                there is overwritten: a file of the recorded size and time is kept, so that the same command completes what an interrupted one \
                left; anything else in an entry's place is named as a problem.
                """)

        @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
        @Argument(help: "Directory to extract into.") var directory: String
        @Flag(help: "Set owners too (as root).") var preserveOwnership = false
        @Flag(help: "Make devices (as root).") var devices = false
        @Flag(help: "Keep set-user-id and set-group-id bits.") var setIds = false
        @Flag(help: "Compare the content of files that are there already, not only their size and time.") var verify = false
        @Option(
            help: ArgumentHelp(
                "Read chunks from there instead of the daemon and the flist's own routes. May be repeated.", valueName: "URL"))
        var store: [String] = []
        @OptionGroup var options: APIOptions

        func run() async throws {
            var extract = ExtractOptions(destination: directory)
            extract.owners = preserveOwnership
            extract.devices = devices
            extract.setIDs = setIds
            extract.comparesContent = verify
            try await Extraction.run(flist, extract, stores: store, client: try options.client())
        }
    }
}
