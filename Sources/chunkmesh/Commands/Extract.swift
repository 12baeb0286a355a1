import ArgumentParser
import ChunkModel
import ControlClient
import Flist
import FlistTools
import Synchronization

struct Get: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Copies a file or a tree out of an flist.")

    @Argument(help: "FLIST:PATH") var target: FlistTarget
    @Argument(help: "What is made of it: a file, or a directory.") var destination: String
    @OptionGroup var options: APIOptions

    func run() async throws {
        var extract = ExtractOptions(destination: destination)
        extract.path = target.path
        try await Extraction.run(target.flist, extract, stores: [], client: try options.client())
    }
}

/// What `get` and `flist unpack` have in common.
enum Extraction {
    static func run(_ name: String, _ options: ExtractOptions, stores: [String], client: ControlClient?) async throws {
        Interrupt.cleanUpFirst()
        let access = try await FlistAccess.open(name, stores: stores, client: client)
        let (flist, blocks) = (access.flist, BlockReader(access.source))
        defer { withExtendedLifetime(access) {} }
        let report = try await Interrupt.cancelling {
            let bar = Mutex(ProgressBar("extracting"))
            return try await FlistExtractor.extract(flist, options, from: blocks) { progress in
                let note = "\(progress.files) files, \(Terminal.size(progress.bytes))"
                bar.withLock { $0.show(done: progress.bytes, of: 0, note: note) }
            }
        }
        for note in flist.notes where !note.hasPrefix("no table") { Terminal.error("chunkmesh: note: \(note)") }
        for note in report.notes { Terminal.error("chunkmesh: note: \(note)") }
        for problem in report.problems { Terminal.error("chunkmesh: left out: \(problem)") }
        if report.problemCount > report.problems.count {
            Terminal.error("chunkmesh: and \(report.problemCount - report.problems.count) more")
        }
        Terminal.error(
            "\(report.files) files, \(report.directories) directories, \(report.links) links, \(Terminal.size(report.bytes))"
                + (report.kept > 0 ? "; \(report.kept) were there already" : ""))
        if report.problemCount > 0 { throw ExitCode(1) }
    }
}
