import ArgumentParser
import ChunkModel
import ControlClient
import ControlModel
import Flist
import FlistTools

struct FlistCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flist", abstract: "Makes and looks into flists.",
        subcommands: [Pack.self, Unpack.self, Inspect.self, Verify.self, Sign.self])

    struct Pack: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Packs a directory into an flist, its content into a store.",
            discussion: "The stores are recorded as routes, without passwords, unless --route names others.")

        @Argument(help: "Directory to pack.") var directory: String
        @Option(name: .shortAndLong, help: ArgumentHelp("The flist to write.", valueName: "OUT.fl")) var output: String
        @Option(
            help: ArgumentHelp(
                "dir:///path or [XX-YY=]dir:///path, XX-YY being first bytes of chunk ids in hex. May be repeated.", valueName: "URL"))
        var store: [String]
        @Option(help: ArgumentHelp("[XX-YY=]URL to record in place of the stores' own. May be repeated.", valueName: "URL")) var route:
            [String] = []
        @Option(help: ArgumentHelp("KEY=VALUE to record. May be repeated.", valueName: "TAG")) var tag: [String] = []
        @Flag(help: "Record passwords that stand in URLs.") var keepPasswords = false
        @Flag(help: "One JSON document on stdout.") var json = false

        func validate() throws {
            if store.isEmpty { throw ValidationError("--store says where the content goes, such as dir:///srv/hub") }
            for tag in tag where !tag.contains("=") { throw ValidationError("--tag takes KEY=VALUE, not \(tag)") }
        }

        func run() throws {
            Interrupt.cleanUpFirst()
            var options = PackOptions(directory: directory, output: output, stores: try store.map { try PackStore(argument: $0) })
            options.routes = try route.map { argument in
                let (range, url) = try PackStore.split(argument)
                return Route(range: range, url: url)
            }
            options.tags = tag.map { text in
                let equals = text.firstIndex(of: "=")!
                return FlistTag(key: String(text[..<equals]), value: String(text[text.index(after: equals)...]))
            }
            options.keepPasswords = keepPasswords
            var bar = ProgressBar("packing")
            let report: PackReport
            do {
                report = try FlistPacker.pack(options) { progress in
                    try Interrupt.check()
                    bar.show(
                        done: progress.bytesDone, of: progress.bytesTotal,
                        note: "\(Terminal.size(progress.bytesDone)) of \(Terminal.size(progress.bytesTotal))")
                }
            } catch {
                try Interrupt.check()
                throw error
            }
            bar.end(done: report.bytes, of: report.bytes, note: Terminal.size(report.bytes))
            for note in report.notes { Terminal.error("chunkmesh: note: \(note)") }
            for problem in report.problems { Terminal.error("chunkmesh: left out: \(problem)") }
            let summary = Summary(
                flist: output, entries: report.entries, files: report.files, bytes: report.bytes, blocks: report.blocks,
                newChunks: report.newChunks,
                newBytes: report.newBytes, problems: report.problemCount)
            if json {
                try Terminal.json(summary)
            } else {
                Terminal.out(
                    "\(output): \(report.entries) entries, \(report.files) files, \(Terminal.size(report.bytes)) in \(report.blocks) blocks; \(report.newChunks) new chunks, \(Terminal.size(report.newBytes)) stored"
                )
            }
            if report.problemCount > 0 { throw ExitCode(1) }
        }

        private struct Summary: Encodable {
            let flist: String
            let entries: Int
            let files: Int
            let bytes: UInt64
            let blocks: Int
            let newChunks: Int
            let newBytes: UInt64
            let problems: Int
        }
    }

    struct Unpack: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Extracts a whole flist into a directory.",
            discussion: "Works with and without a daemon. A bad entry is named and left out, and the rest goes on; exit status 1 then.")

        @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
        @Argument(help: "Directory to extract into.") var directory: String
        @Flag(help: "Set owners too (as root).") var preserveOwnership = false
        @Flag(help: "Make devices (as root).") var devices = false
        @Flag(help: "Keep set-user-id and set-group-id bits.") var setIds = false
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
            try await Extraction.run(flist, extract, stores: store, client: try options.client())
        }
    }

    struct Inspect: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows what an flist holds.")

        @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
        @OptionGroup var options: APIOptions

        func run() async throws {
            let local = FlistName.localFile(flist) != nil
            let access = try await FlistAccess.open(flist, stores: [], client: local ? nil : try options.client())
            var summary = try FlistSummary(access.flist)
            summary.path = flist
            let signer = try Signer.find(flist, client: local ? nil : try options.client())
            if options.json { try Terminal.json(InspectedFlist(summary: summary, signature: signer)) } else { show(summary) }
            if let signer, !options.json { Terminal.out("signed   \(Signer.line(signer))") }
            if summary.problemCount > 0 { throw ExitCode(1) }
        }

        private func show(_ summary: FlistSummary) {
            Terminal.out(
                "\(Terminal.quoted(summary.path)): \(summary.entries) entries: \(summary.files) files, \(summary.directories) directories, \(summary.symlinks) links, \(summary.specials) specials"
            )
            Terminal.out("content  \(Terminal.size(summary.bytes)) in \(summary.uniqueChunks) unique chunks")
            for route in summary.routes {
                Terminal.out("route    \(Hex.encode([route.start]))-\(Hex.encode([route.end])) \(Terminal.quoted(route.url))")
            }
            for (key, value) in summary.tags.sorted(by: { $0.key < $1.key }) {
                Terminal.out("tag      \(Terminal.quoted(key)) = \(Terminal.quoted(String(value.prefix(200))))")
            }
            for note in summary.notes { Terminal.error("chunkmesh: note: \(note)") }
            for problem in summary.problems { Terminal.error("chunkmesh: \(problem)") }
            if summary.problemCount > summary.problems.count {
                Terminal.error("chunkmesh: and \(summary.problemCount - summary.problems.count) more")
            }
        }
    }

    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Checks every chunk of an flist: there and right, or which is not; with --key who signed it.")

        enum Place: String, ExpressibleByArgument, CaseIterable { case node, site, hub }

        @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
        @Option(help: "Where to look.") var on: Place = .hub
        @Option(help: ArgumentHelp("Look in this store instead of the flist's routes (with --on hub). May be repeated.", valueName: "URL"))
        var store: [String] = []
        @OptionGroup var signing: SignatureOptions
        @OptionGroup var options: APIOptions

        func validate() throws { if !store.isEmpty, on != .hub { throw ValidationError("--store goes with --on hub") } }

        func run() async throws {
            let signer = try await signing.check(flist, options)
            if let signer, !options.json { Terminal.out("signed with the key \(signer.key): \(signer.comment ?? "")") }
            if signing.signatureOnly {
                if options.json { try Terminal.json(FlistVerification(chunks: 0, good: 0, problems: [], signature: signer)) }
                return
            }
            var report: FlistVerification
            if on == .hub, !store.isEmpty || FlistName.localFile(flist) != nil {
                report = try await alone()
            } else {
                let client = try options.client()
                report = try client.post(try client.open(flist) + "/verify?on=\(on.rawValue)", OpenRequest?.none)
            }
            report.signature = signer
            if options.json { try Terminal.json(report) }
            for problem in report.problems { Terminal.error("chunkmesh: chunk \(problem.chunk): \(problem.reason)") }
            if !options.json { Terminal.out("\(report.good) of \(report.chunks) chunks are there and right") }
            if report.good < report.chunks || !report.problems.isEmpty { throw ExitCode(1) }
        }

        private func alone() async throws -> FlistVerification {
            let access = try await FlistAccess.open(flist, stores: store, client: nil)
            var bar = ProgressBar("verifying")
            let report = try await FlistVerifier.verify(access.flist, source: access.source) { done, all in
                bar.show(done: UInt64(done), of: UInt64(all), note: "\(done)/\(all) chunks")
            }
            var problems = report.missing.map { FlistVerification.Problem(chunk: $0.hex, reason: "missing") }
            problems += report.bad.map { .init(chunk: $0.id.hex, reason: $0.reason) }
            problems += report.problems.map { .init(chunk: "", reason: $0) }
            return FlistVerification(chunks: report.chunks, good: report.goodChunks, problems: problems)
        }
    }
}
