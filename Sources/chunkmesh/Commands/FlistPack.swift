import ArgumentParser
import ChunkModel
import Flist
import FlistTools

extension FlistCommand {
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
                return Route(range: ChunkRange(firstBytes: range), url: url)
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
}
