import ArgumentParser
import CarryFile
import ChunkModel
import ControlClient
import ControlModel
import Glibc
import Logging
import MeshNode
import NodeConfiguration

/// The cache that a command works on: the daemon's, or a directory that no daemon holds.
struct CacheOptions: ParsableArguments {
    @Option(help: ArgumentHelp("A cache directory that no daemon holds, instead of the daemon's.", valueName: "DIR"))
    var cache: String?
    @Option(help: ArgumentHelp("Without a daemon: cache and trust of this node.yaml.", valueName: "FILE"))
    var config: String?

    /// `nil`: the daemon is to be asked.
    func offline() throws -> OfflineCache? {
        guard cache != nil || config != nil else { return nil }
        var configuration = try Configuration.load(file: config, environment: environment)
        if let cache { configuration.cache.dir = cache }
        var logger = Logger(label: "chunkmesh") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .warning
        // Of a directory alone nobody knows the quota.
        return try OfflineCache(
            configuration.cache, maxBytes: config == nil ? nil : Int64(clamping: configuration.cache.maxSize), trust: configuration.trust,
            logger: logger)
    }

    private var environment: [String: String] {
        ["HOME", "XDG_CACHE_HOME"].reduce(into: [:]) { all, name in
            if let value = getenv(name) { all[name] = String(cString: value) }
        }
    }
}

extension Cache {
    struct Export: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Writes flists and their chunks to a file, for a site that no line reaches.",
            discussion: """
                Without FLIST: all that are complete on this node or at the site. Chunks that only other nodes hold are fetched. FILE may \
                be - for stdout. With --cache or --config it works on a directory that no daemon holds.
                """)

        @Argument(help: "Where to; - for stdout.") var file: String
        @Argument(help: "Known names, digests or URLs.") var flists: [String] = []
        @OptionGroup var place: CacheOptions
        @OptionGroup var options: APIOptions

        func validate() throws {
            if file == "-", options.json { throw ValidationError("--json and - both write to stdout") }
        }

        func run() async throws {
            Interrupt.cleanUpFirst()
            if file == "-", isatty(1) == 1 { throw ControlError.usage("the file is not for a terminal; name one, or send it to a pipe") }
            let output = try CarryOutput(file)
            if let cache = try place.offline() {
                defer { cache.close() }
                let content = try cache.export(flists.map(FlistName.forDaemon))
                while let piece = try await content.next() { try piece.withBytes { try output.take($0) } }
            } else {
                let query = flists.map { "flist=" + ControlClient.escape(path: Array(FlistName.forDaemon($0).utf8)) }
                let client = try options.client()
                var failure: (any Error)?
                do {
                    try client.stream("/v1/cache/export" + (query.isEmpty ? "" : "?" + query.joined(separator: "&")), range: nil) { piece in
                        do { try output.take(piece) } catch { failure = error }
                        return failure == nil
                    }
                } catch {
                    throw failure ?? error
                }
            }
            let counts = try output.finish()
            let report = CacheExportReport(
                file: file, flists: counts.flists, chunks: counts.chunks, bytes: output.written, absent: counts.absent)
            if options.json {
                try Terminal.json(report)
            } else if file != "-" {
                Terminal.out("\(file): \(report.flists) flists, \(report.chunks) chunks, \(Terminal.size(report.bytes))")
            }
            guard report.absent == 0 else {
                throw ControlError.broken("\(report.absent) chunks of these flists could not be had; \(file) lacks them")
            }
        }
    }

    struct Import: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Takes in what cache export wrote: every flist and chunk is verified.",
            discussion: "FILE may be - for stdin. With --cache or --config it works on a directory that no daemon holds.")

        @Argument(help: "Where from; - for stdin.") var file: String
        @OptionGroup var place: CacheOptions
        @OptionGroup var options: APIOptions

        func run() async throws {
            Interrupt.cleanUpFirst()
            let input = try CarryInput(file)
            let report: CacheImportReport
            if let cache = try place.offline() {
                defer { cache.close() }
                let taking = cache.beginImport()
                while let piece = try input.piece() { if await !taking.take(piece) { break } }
                report = await taking.finish()
            } else {
                do {
                    report = try options.client().upload("/v1/cache/import") { input.read(into: $0) }
                } catch {
                    try Interrupt.check()
                    throw error
                }
            }
            input.endProgress()
            try Interrupt.check()
            if let error = input.failure { throw ControlError.broken("\(file) cannot be read: \(error)") }
            if options.json { try Terminal.json(report) } else { show(report) }
            if !report.complete { throw ExitCode(1) }
        }

        private func show(_ report: CacheImportReport) {
            Terminal.out(
                "\(report.stored) chunks stored, \(Terminal.size(report.storedBytes)); \(report.held) were here already")
            for flist in report.flists {
                let name = Terminal.quoted(flist.name)
                if let error = flist.error {
                    Terminal.error("chunkmesh: \(name) was not taken in: \(Terminal.quoted(error))")
                } else if flist.missing > 0 {
                    Terminal.error("chunkmesh: \(name): \(flist.missing) of \(flist.chunks) chunks are missing")
                } else {
                    Terminal.out("\(name): complete, \(flist.chunks) chunks")
                }
            }
            if report.wrong > 0 { Terminal.error("chunkmesh: \(report.wrong) chunks or flists of the file were wrong, and are left out") }
            if report.unclaimed > 0 {
                Terminal.error("chunkmesh: \(report.unclaimed) chunks belong to no flist that is known, and are left out")
            }
            if let problem = report.problem { Terminal.error("chunkmesh: \(file): \(Terminal.quoted(problem))") }
        }
    }
}
