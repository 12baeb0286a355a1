import ArgumentParser
import BlockCodec
import BlockingThreads
import ChunkModel
import Flist
import FlistTools
import Glibc
import LegacyFlist
import LocalFiles
import Synchronization

/// `flist convert` of a legacy flist: its rows as they are, or its blocks coded anew.
enum LegacyConversion {
    /// Whether the file is what this is for, and not another kind of archive.
    static func applies(to path: String) async throws -> Bool {
        try await BlockingThreads(count: 1).run { try LegacyConverter.isLegacy(path) { try Interrupt.check() } }
    }

    /// Without moving chunks: ids and keys of 16 bytes, which chunkmesh reads and rfs does not.
    static func keepingChunks(_ path: String, to output: String, routes: [Route], keepPasswords: Bool, json: Bool) async throws {
        Interrupt.cleanUpFirst()
        let summary = try await BlockingThreads(count: 1).run {
            let part = try PartFile(output)
            try LegacyConverter.convert(
                path, to: part.path, scratch: TemporaryFile.directory,
                routes: { own in
                    (routes.isEmpty ? own : routes).map { route in
                        var route = route
                        if !keepPasswords { route.url = PackStore.withoutPassword(route.url) }
                        return route
                    }
                }, check: { try Interrupt.check() })
            let made = try FlistSummary(FlistFile(path: part.path))
            try part.publish()
            return made
        }
        Terminal.error(
            "chunkmesh: note: the chunks stay where they are, with ids of 16 bytes: chunkmesh reads \(output), rfs does not (--store codes them anew)"
        )
        for note in summary.notes where !note.hasPrefix("no table") { Terminal.error("chunkmesh: note: \(note)") }
        for problem in summary.problems { Terminal.error("chunkmesh: left out: \(problem)") }
        if summary.problemCount > summary.problems.count {
            Terminal.error("chunkmesh: and \(summary.problemCount - summary.problems.count) more")
        }
        if json {
            var summary = summary
            summary.path = output
            try Terminal.json(summary)
        } else {
            Terminal.out(
                "\(output): \(summary.entries) entries, \(summary.files) files, \(Terminal.size(summary.bytes)) in \(summary.uniqueChunks) unique chunks"
            )
        }
        if summary.problemCount > 0 { throw ExitCode(1) }
    }

    /// Every block fetched, decoded, coded anew and stored.
    ///
    /// - Parameter sources: where the old chunks are read from, in place of the flist's own routes.
    static func recoding(_ path: String, _ session: PackSession.Options, from sources: [String], json: Bool) async throws {
        Interrupt.cleanUpFirst()
        let access = try await FlistAccess.open(path, stores: sources, client: nil)
        let reader = BlockReader(access.source)
        let bar = Mutex(ProgressBar("converting"))
        let report: RecodeReport
        do {
            report = try await FlistRecoder.recode(access.flist, session, blocks: { try await reader.plainBlock($0) }) { done, all in
                try Interrupt.check()
                guard all > 0 else { return }
                bar.withLock { $0.show(done: done, of: all, note: "\(Terminal.size(done)) of \(Terminal.size(all))") }
            }
        } catch {
            try Interrupt.check()
            for note in access.flist.notes { Terminal.error("chunkmesh: note: \(note)") }
            throw error
        }
        bar.withLock { $0.end(done: report.bytes, of: report.bytes, note: Terminal.size(report.bytes)) }
        for note in access.flist.notes { Terminal.error("chunkmesh: note: \(note)") }
        for problem in report.problems { Terminal.error("chunkmesh: left out: \(problem)") }
        try PackedFlist(
            flist: session.output, entries: report.entries, files: report.files, bytes: report.bytes, blocks: report.blocks,
            newChunks: report.newChunks, newBytes: report.newBytes, problems: report.problemCount
        ).show(json: json)
        if report.problemCount > 0 { throw ExitCode(1) }
    }

    /// An empty file beside its place, which it takes when it is whole; gone otherwise.
    private final class PartFile {
        let path: String
        private let output: String

        init(_ output: String) throws {
            self.output = output
            path = "\(output).\(getpid()).tmp"
            let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o644)
            guard descriptor >= 0 else { throw ToolError("\(FlistPath.quoted(Array(path.utf8))): \(String(cString: strerror(errno)))") }
            close(descriptor)
        }

        deinit { unlink(path) }

        func publish() throws {
            let descriptor = open(path, O_RDONLY | O_CLOEXEC)
            defer { if descriptor >= 0 { close(descriptor) } }
            guard descriptor >= 0, fsync(descriptor) == 0, rename(path, output) == 0 else {
                throw ToolError("\(FlistPath.quoted(Array(output.utf8))): \(String(cString: strerror(errno)))")
            }
        }
    }
}
