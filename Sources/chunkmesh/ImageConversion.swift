import ArgumentParser
import BlockingThreads
import Flist
import FlistTools
import Synchronization

/// `flist convert` of a container image.
enum ImageConversion {
    static func run(_ options: ImageOptions, json: Bool) async throws {
        Interrupt.cleanUpFirst()
        let bar = Mutex(ProgressBar("converting"))
        let report: ImageReport
        do {
            report = try await BlockingThreads(count: 1).run {
                try ImageConverter.convert(options) { progress in
                    try Interrupt.check()
                    guard progress.bytesTotal > 0 else { return }
                    bar.withLock {
                        $0.show(
                            done: progress.bytesDone, of: progress.bytesTotal,
                            note: "\(Terminal.size(progress.bytesDone)) of \(Terminal.size(progress.bytesTotal)) of layers")
                    }
                }
            }
        } catch {
            try Interrupt.check()
            throw error
        }
        bar.withLock { $0.end(done: report.bytes, of: report.bytes, note: Terminal.size(report.bytes)) }
        show(report, options.session.output, json: json)
        if report.problemCount > 0 { throw ExitCode(1) }
    }

    private static func show(_ report: ImageReport, _ output: String, json: Bool) {
        for note in report.notes { Terminal.error("chunkmesh: note: \(note)") }
        for problem in report.problems { Terminal.error("chunkmesh: left out: \(problem)") }
        if report.problemCount > report.problems.count {
            Terminal.error("chunkmesh: and \(report.problemCount - report.problems.count) more")
        }
        if FlistEditor.hasSignature(output) {
            Terminal.error("chunkmesh: note: \(output).minisig does not fit the new bytes: sign the flist again")
        }
        if json {
            try? Terminal.json(Summary(output, report))
            return
        }
        let name = FlistPath.quoted(Array((report.name ?? report.digest).utf8))
        Terminal.out(
            "\(output): \(name), \(report.layers) layers: \(report.entries) entries, \(report.files) files, \(Terminal.size(report.bytes)) in \(report.blocks) blocks; \(report.newChunks) new chunks, \(Terminal.size(report.newBytes)) stored"
        )
    }

    private struct Summary: Encodable {
        let flist: String
        let image: String?
        let digest: String
        let platform: String?
        let layers: Int
        let entries: Int
        let files: Int
        let directories: Int
        let bytes: UInt64
        let blocks: Int
        let newChunks: Int
        let newBytes: UInt64
        let hiddenEntries: Int
        let whiteouts: Int
        let tags: [String: String]
        let problems: Int

        init(_ output: String, _ report: ImageReport) {
            (flist, image, digest, platform) = (output, report.name, report.digest, report.platform)
            (layers, entries, files, directories) = (report.layers, report.entries, report.files, report.directories)
            (bytes, blocks, newChunks, newBytes) = (report.bytes, report.blocks, report.newChunks, report.newBytes)
            (hiddenEntries, whiteouts, problems) = (report.hiddenEntries, report.whiteouts, report.problemCount)
            tags = Dictionary(report.tags.map { ($0.key, $0.value) }) { first, _ in first }
        }
    }
}
