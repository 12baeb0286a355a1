import ArgumentParser
import BlockingThreads
import ChunkModel
import Flist
import FlistTools
import Synchronization

extension FlistCommand {
    struct Clone: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Copies an flist's chunks to other stores.",
            discussion: """
                Chunks go as they are, each checked against its id, and only those that a store lacks: the same command goes on after an \
                interruption. OUT.fl is the flist with the new stores as its routes, written when all chunks are there.
                """)

        @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
        @Option(
            help: ArgumentHelp(
                "[XX-YY=]URL of a directory (dir:///path, or a path), zdb, redis, s3, s3s or server. May be repeated.", valueName: "URL"))
        var to: [String]
        @Option(name: .shortAndLong, help: ArgumentHelp("The flist with the new routes.", valueName: "OUT.fl")) var output: String?
        @Flag(help: "Keep the flist's own routes in OUT.fl, behind the new ones.") var addRoutes = false
        @Option(
            help: ArgumentHelp(
                "Read chunks from there instead of the daemon and the flist's own routes. May be repeated.", valueName: "URL"))
        var store: [String] = []
        @Flag(help: "Record passwords that stand in URLs.") var keepPasswords = false
        @OptionGroup var options: APIOptions

        func validate() throws {
            if to.isEmpty { throw ValidationError("--to says where the chunks go, such as dir:///srv/hub") }
            if output == nil, addRoutes || keepPasswords { throw ValidationError("--add-routes and --keep-passwords go with -o OUT.fl") }
        }

        func run() async throws {
            let targets = try PackStore.all(to)
            let local = FlistName.localFile(flist) != nil
            let access = try await FlistAccess.open(flist, stores: store, client: local ? nil : try options.client())
            let (file, source) = (access.flist, access.source)
            defer { withExtendedLifetime(access) {} }
            let report = try await Interrupt.cancelling {
                let bar = Mutex(ProgressBar("cloning"))
                return try await FlistCloner.clone(file, from: source, to: targets) { done, all in
                    bar.withLock { $0.show(done: UInt64(done), of: UInt64(all), note: "\(done)/\(all) chunks") }
                }
            }
            for problem in report.problems { Terminal.error("chunkmesh: \(problem)") }
            if report.problemCount > report.problems.count {
                Terminal.error("chunkmesh: and \(report.problemCount - report.problems.count) more")
            }
            var leftOut: [String] = []
            if let output, report.problemCount == 0 {
                let routes =
                    targets.map {
                        Route(
                            range: ChunkRange(firstBytes: $0.range), url: keepPasswords ? $0.url : PackStore.withoutPassword($0.url))
                    } + (addRoutes ? file.routes : [])
                leftOut = try await BlockingThreads(count: 1).run { try FlistCloner.write(file, to: output, routes: routes) }
                for problem in leftOut { Terminal.error("chunkmesh: left out: \(problem)") }
            }
            let summary = Summary(
                flist: report.problemCount == 0 ? output : nil, chunks: report.chunks, present: report.present, copied: report.copied,
                bytes: report.bytes, problems: report.problemCount + leftOut.count)
            if options.json {
                try Terminal.json(summary)
            } else {
                Terminal.out(
                    "\(report.chunks) chunks: \(report.copied) copied (\(Terminal.size(report.bytes))), \(report.present) were there already"
                )
            }
            if summary.problems > 0 { throw ExitCode(1) }
        }

        private struct Summary: Encodable {
            let flist: String?
            let chunks: Int
            let present: Int
            let copied: Int
            let bytes: UInt64
            let problems: Int
        }
    }
}
