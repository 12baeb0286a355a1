import ArgumentParser
import BlockingThreads
import Flist
import FlistTools

extension FlistCommand {
    struct Merge: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Makes one flist of several; what a later one says counts.",
            discussion: """
                Directories of one path are united, with owner, mode and time of the last flist that has them. Of anything else with one \
                path the last one counts: a file hides a directory of an earlier flist with all below it. Routes of all are kept, so that \
                every chunk is found; no chunk is moved. Of tags with one key the last one counts.
                """)

        @Argument(help: ArgumentHelp("Local files, http(s) URLs, or known names.", valueName: "FLIST")) var flists: [String]
        @Option(name: .shortAndLong, help: ArgumentHelp("The flist to write.", valueName: "OUT.fl")) var output: String
        @OptionGroup var options: APIOptions

        func validate() throws {
            guard flists.count >= 2 else { throw ValidationError("two flists or more are merged") }
            guard flists.count <= FlistMerger.maxFlists else { throw ValidationError("up to \(FlistMerger.maxFlists) flists are merged") }
        }

        func run() async throws {
            Interrupt.cleanUpFirst()
            var sources: [FlistAccess] = []
            for name in flists {
                try Interrupt.check()
                sources.append(
                    try await FlistAccess.open(name, stores: [], client: FlistName.localFile(name) != nil ? nil : try options.client()))
            }
            let (files, target) = (sources.map(\.flist), output)
            let report = try await BlockingThreads(count: 1).run { try FlistMerger.merge(files, to: target) { try Interrupt.check() } }
            for note in report.notes { Terminal.error("chunkmesh: note: \(note)") }
            for problem in report.problems { Terminal.error("chunkmesh: left out: \(problem)") }
            if FlistEditor.hasSignature(output) {
                Terminal.error("chunkmesh: note: \(output).minisig does not fit the new bytes: sign the flist again")
            }
            if options.json {
                try Terminal.json(
                    Summary(
                        flist: output, sources: flists, entries: report.entries, files: report.files, directories: report.directories,
                        bytes: report.bytes, blocks: report.blocks, routes: report.routes, problems: report.problemCount))
            } else {
                Terminal.out(
                    "\(output): \(report.entries) entries, \(report.files) files, \(Terminal.size(report.bytes)) in \(report.blocks) blocks; \(report.routes) routes"
                )
            }
            if report.problemCount > 0 { throw ExitCode(1) }
        }

        private struct Summary: Encodable {
            let flist: String
            let sources: [String]
            let entries: Int
            let files: Int
            let directories: Int
            let bytes: UInt64
            let blocks: Int
            let routes: Int
            let problems: Int
        }
    }
}
