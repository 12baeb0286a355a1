import ArgumentParser
import ChunkModel
import FlistTools

extension FlistCommand {
    struct Inspect: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Shows what an flist holds.")

        @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
        @OptionGroup var options: APIOptions

        func run() async throws {
            let local = FlistName.localFile(flist) != nil
            let access = try await FlistAccess.open(flist, stores: [], client: local ? nil : try options.client())
            var summary = try FlistSummary(access.flist)
            summary.path = flist
            if options.json { try Terminal.json(summary) } else { show(summary) }
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
}
