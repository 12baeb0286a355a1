import ArgumentParser
import ChunkModel
import ControlClient
import ControlModel
import Flist
import FlistTools
import Synchronization

extension FlistCommand {
    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Checks every chunk of an flist: there and right, or which is not; with --key who signed it.")

        /// Lines about problems; the document of --json holds all of them.
        private static let maxLines = 100

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
            for problem in report.problems.prefix(Self.maxLines) {
                let file = problem.file.map { " (\($0))" } ?? ""
                Terminal.error("chunkmesh: " + (problem.chunk.isEmpty ? "" : "chunk \(problem.chunk): ") + problem.reason + file)
            }
            if report.problems.count > Self.maxLines {
                Terminal.error("chunkmesh: and \(report.problems.count - Self.maxLines) more; --json lists all")
            }
            if !options.json { Terminal.out("\(report.good) of \(report.chunks) chunks are there and right") }
            if report.good < report.chunks || !report.problems.isEmpty { throw ExitCode(1) }
        }

        private func alone() async throws -> FlistVerification {
            let access = try await FlistAccess.open(flist, stores: store, client: nil)
            let (file, source) = (access.flist, access.source)
            defer { withExtendedLifetime(access) {} }
            let report = try await Interrupt.cancelling {
                let bar = Mutex(ProgressBar("verifying"))
                return try await FlistVerifier.verify(file, source: source) { done, all in
                    bar.withLock { $0.show(done: UInt64(done), of: UInt64(all), note: "\(done)/\(all) chunks") }
                }
            }
            var problems = report.missing.map { FlistVerification.Problem(chunk: $0.hex, reason: "missing", file: report.files[$0]) }
            problems += report.bad.map { .init(chunk: $0.id.hex, reason: $0.reason, file: report.files[$0.id]) }
            problems += report.problems.map { .init(chunk: "", reason: $0) }
            let more = report.missingCount + report.badCount + report.problemCount - problems.count
            if more > 0 { problems.append(.init(chunk: "", reason: "and \(more) more")) }
            return FlistVerification(chunks: report.chunks, good: report.goodChunks, problems: problems)
        }
    }
}
