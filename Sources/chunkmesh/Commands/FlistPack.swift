import ArgumentParser
import BlockCodec
import BlockingThreads
import ChunkModel
import Flist
import FlistTools
import Synchronization

extension FlistCommand {
    struct Pack: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Packs a directory into an flist, its content into a store.",
            discussion: """
                The stores are recorded as routes, without passwords and keys, unless --route names others. A chunk goes to every store whose \
                range has it; chunks that a store has already are not sent. After an interruption the same command goes on where it was: \
                what it has stored is remembered in OUT.fl.resume until it is done.
                """)

        @Argument(help: "Directory to pack.") var directory: String
        @Option(name: .shortAndLong, help: ArgumentHelp("The flist to write.", valueName: "OUT.fl")) var output: String
        @Option(
            help: ArgumentHelp(
                "[XX-YY=]URL of a directory (dir:///path, or a path), zdb, redis, s3, s3s or server; XX-YY: first bytes of chunk ids, in hex. May be repeated.",
                valueName: "URL"))
        var store: [String]
        @Option(help: ArgumentHelp("[XX-YY=]URL to record in place of the stores' own. May be repeated.", valueName: "URL")) var route:
            [String] = []
        @Option(help: ArgumentHelp("KEY=VALUE to record. May be repeated.", valueName: "TAG")) var tag: [String] = []
        @Option(help: "rfs: every reader knows it. zstd: smaller, for chunkmesh only; a tag says so.") var blockCodec: Codec = .rfs
        @Flag(help: "Record passwords that stand in URLs.") var keepPasswords = false
        @Flag(help: "One JSON document on stdout.") var json = false

        enum Codec: String, ExpressibleByArgument, CaseIterable {
            case rfs, zstd
            var coding: BlockCoding { self == .rfs ? .rfs : .zstd }
        }

        func validate() throws {
            if store.isEmpty { throw ValidationError("--store says where the content goes, such as dir:///srv/hub") }
            for tag in tag where !tag.contains("=") { throw ValidationError("--tag takes KEY=VALUE, not \(tag)") }
        }

        func run() async throws {
            Interrupt.cleanUpFirst()
            var options = PackOptions(
                directory: directory, output: output, stores: try PackStore.all(store))
            options.session.routes = try Route.all(route)
            options.session.tags = FlistTag.all(tag)
            options.session.keepPasswords = keepPasswords
            options.session.coding = blockCodec.coding
            options.measuresFirst = ProgressBar.isShown
            let bar = Mutex(ProgressBar("packing"))
            let report: PackReport
            do {
                let chosen = options
                report = try await BlockingThreads(count: 1).run {
                    try FlistPacker.pack(chosen) { progress in
                        try Interrupt.check()
                        bar.withLock {
                            $0.show(
                                done: progress.bytesDone, of: progress.bytesTotal,
                                note: progress.bytesTotal == 0
                                    ? Terminal.size(progress.bytesDone)
                                    : "\(Terminal.size(progress.bytesDone)) of \(Terminal.size(progress.bytesTotal))")
                        }
                    }
                }
            } catch {
                try Interrupt.check()
                throw error
            }
            bar.withLock { $0.end(done: report.bytes, of: report.bytes, note: Terminal.size(report.bytes)) }
            for note in report.notes { Terminal.error("chunkmesh: note: \(note)") }
            for problem in report.problems { Terminal.error("chunkmesh: left out: \(problem)") }
            try PackedFlist(
                flist: output, entries: report.entries, files: report.files, bytes: report.bytes, blocks: report.blocks,
                newChunks: report.newChunks, newBytes: report.newBytes, resumedFiles: report.resumedFiles, problems: report.problemCount
            ).show(json: json)
            if report.problemCount > 0 { throw ExitCode(1) }
        }
    }
}
