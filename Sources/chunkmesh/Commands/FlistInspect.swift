import ArgumentParser
import BlockingThreads
import ChunkModel
import Flist
import FlistTools
import LegacyFlist

extension FlistCommand {
    struct Inspect: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows what an flist holds: sums, routes, tags, and what is wrong with it.")

        @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
        @Flag(help: "All entries, one a line.") var tree = false
        @Flag(help: "All unique chunks and the bytes of content that each holds.") var chunks = false
        @OptionGroup var options: APIOptions

        func run() async throws {
            let local = FlistName.localFile(flist) != nil
            let access = try await FlistAccess.open(flist, stores: [], client: local ? nil : try options.client())
            let signer = try Signer.find(flist, client: local ? nil : try options.client())
            let (file, name, showsTree, showsChunks, isJSON) = (access.flist, flist, tree, chunks, options.json)
            let summary = try await BlockingThreads(count: 1).run {
                let stream = isJSON ? JSONStream() : nil
                if showsTree { stream?.beginList("tree") }
                var hasChunks = false
                var summary = try FlistSummary(
                    file,
                    entry: { entry, path in
                        try Interrupt.check()
                        guard showsTree else { return }
                        if let stream { try stream.item(Entry(entry, path)) } else { Terminal.out(Self.line(entry, path)) }
                    },
                    chunk: showsChunks
                        ? { id, plain in
                            if !hasChunks { stream?.beginList("chunks") }
                            hasChunks = true
                            if let stream {
                                try stream.item(ChunkLine(id: id.hex, plainBytes: plain))
                            } else {
                                Terminal.out("chunk    \(id.hex) \(plain.map(String.init) ?? "?")")
                            }
                        } : nil)
                if showsChunks, !hasChunks { stream?.beginList("chunks") }
                summary.path = name
                if case .legacy = try FlistFormat(path: file.path) { summary.format = "legacy" }
                try stream?.end(with: InspectedFlist(summary: summary, signature: signer))
                return summary
            }
            if !options.json { show(summary) }
            if let signer, !options.json { Terminal.out("signed   \(Signer.line(signer))") }
            if summary.problemCount > 0 { throw ExitCode(1) }
        }

        private func show(_ summary: FlistSummary) {
            Terminal.out(
                "\(Terminal.quoted(summary.path)): \(summary.entries) entries: \(summary.files) files, \(summary.directories) directories, \(summary.symlinks) links, \(summary.specials) specials"
            )
            let unknown = summary.chunksOfUnknownSize > 0 ? " (and \(summary.chunksOfUnknownSize) of unknown size)" : ""
            Terminal.out(
                "content  \(Terminal.size(summary.bytes)) in \(summary.uniqueChunks) unique chunks of \(Terminal.size(summary.uniqueBytes))\(unknown), \(Terminal.size(summary.sharedBytes)) shared"
            )
            let codecs = summary.codecs.map { FlistPath.quoted(Array($0.utf8.prefix(100))) }.joined(separator: ", ")
            Terminal.out("format   \(summary.format)" + (codecs.isEmpty ? "" : ", codec \(codecs)"))
            for route in summary.routes {
                Terminal.out(
                    "route    \(route.range) \(FlistPath.quoted(Array(route.url.utf8)))" + (route.tier > 0 ? " (tier \(route.tier))" : "")
                        + (route.cache ? " (cache)" : ""))
            }
            for (key, value) in summary.tags.sorted(by: { $0.key < $1.key }) {
                Terminal.out("tag      \(FlistPath.quoted(Array(key.utf8))) = \(FlistPath.quoted(Array(value.utf8.prefix(200))))")
            }
            for note in summary.notes { Terminal.error("chunkmesh: note: \(note)") }
            for problem in summary.problems { Terminal.error("chunkmesh: \(problem)") }
            if summary.problemCount > summary.problems.count {
                Terminal.error("chunkmesh: and \(summary.problemCount - summary.problems.count) more")
            }
        }

        static func line(_ entry: FlistEntry, _ path: [UInt8]) -> String {
            var link = ""
            var size = String(entry.size)
            var kind = "-"
            switch entry.kind {
            case .file: break
            case .directory: kind = "d"
            case .symlink(let target): (kind, link) = ("l", " -> " + FlistPath.quoted(target))
            case .fifo: kind = "p"
            case .socket: kind = "s"
            case .charDevice(let major, let minor): (kind, size) = ("c", "\(major):\(minor)")
            case .blockDevice(let major, let minor): (kind, size) = ("b", "\(major):\(minor)")
            }
            let padding = String(repeating: " ", count: max(0, 12 - size.count))
            return
                "\(kind)\(Diff.octal(entry.permissions)) \(entry.uid):\(entry.gid)\t\(padding)\(size) \(entry.mtime) \(FlistPath.quoted(path))\(link)"
        }

        private struct ChunkLine: Encodable {
            let id: String
            let plainBytes: Int?
        }

        /// As `chunkmesh ls --json` has it, with the whole path.
        private struct Entry: Encodable {
            let path: String
            let pathHex: String?
            let type: String
            let mode: String
            let uid: UInt32
            let gid: UInt32
            let size: UInt64
            let mtime: Int64
            var target: String?
            var targetHex: String?
            var rdev: [UInt32]?

            init(_ entry: FlistEntry, _ path: [UInt8]) {
                let text = ForeignText(path)
                (self.path, pathHex, type) = (text.text, text.hex, entry.typeName)
                (mode, uid, gid, size, mtime) = (Diff.octal(entry.permissions), entry.uid, entry.gid, entry.size, entry.mtime)
                switch entry.kind {
                case .symlink(let bytes):
                    let text = ForeignText(bytes)
                    (target, targetHex) = (text.text, text.hex)
                case .charDevice(let major, let minor), .blockDevice(let major, let minor): rdev = [major, minor]
                case .file, .directory, .fifo, .socket: break
                }
            }
        }
    }
}
