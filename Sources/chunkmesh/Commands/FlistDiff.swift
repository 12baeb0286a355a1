import ArgumentParser
import BlockingThreads
import ChunkModel
import Flist
import FlistTools

extension FlistCommand {
    struct Diff: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Compares two flists: their entries, and the chunks to pull for the second where the first one is held.",
            discussion: """
                Nothing is fetched: content is compared by the keys of blocks. A line each: + added, - removed, ~ changed and what differs. \
                The exit status is 0 whether there are differences or not; with --exit-code it is 1 where there are.
                """)

        @Argument(help: "The flist that is held.") var first: String
        @Argument(help: "The flist to compare it with.") var second: String
        @Flag(help: "Do not compare times.") var ignoreTimes = false
        @Flag(help: "Do not compare owners.") var ignoreOwners = false
        @Flag(help: "Exit status 1 when entries differ.") var exitCode = false
        @Flag(help: "Only the sums.") var summary = false
        @OptionGroup var options: APIOptions

        func run() async throws {
            var compare = DiffOptions()
            compare.ignoreTimes = ignoreTimes
            compare.ignoreOwners = ignoreOwners
            let a = try await open(first)
            let b = try await open(second)
            let (before, after, settings, isJSON, isShort) = (a.flist, b.flist, compare, options.json, summary)
            let stores = after.routes.compactMap { route in (try? DirStore(url: route.url)).map { (route.range, $0) } }
            let report = try await BlockingThreads(count: 1).run {
                let stream = isJSON ? JSONStream() : nil
                stream?.beginList("changes")
                let report = try FlistDiffer.compare(
                    before, after, settings,
                    storedBytes: { id in
                        for (range, store) in stores where range.contains(id) {
                            if let bytes = store.storedBytes(id) { return bytes }
                        }
                        return nil
                    }, check: { try Interrupt.check() },
                    change: { change in
                        if isShort { return }
                        if let stream { try stream.item(Change(change)) } else { Terminal.out(Self.line(change)) }
                    })
                try stream?.end(with: Sums(report))
                return report
            }
            for problem in report.problems { Terminal.error("chunkmesh: not compared: \(problem)") }
            if !options.json { show(report) }
            if report.problemCount > 0 || (exitCode && !report.isEqual) { throw ExitCode(1) }
        }

        private func open(_ name: String) async throws -> FlistAccess {
            try await FlistAccess.open(name, stores: [], client: FlistName.localFile(name) != nil ? nil : try options.client())
        }

        private func show(_ report: DiffReport) {
            Terminal.out("\(report.added) added, \(report.removed) removed, \(report.changed) changed")
            let unknown = report.newChunksOfUnknownSize > 0 ? ", and \(report.newChunksOfUnknownSize) chunks of unknown size" : ""
            let stored =
                report.newChunksStored > 0
                ? "; \(Terminal.size(report.newStoredBytes)) as stored"
                    + (report.newChunksStored < report.newChunks ? " (\(report.newChunksStored) of them)" : "") : ""
            Terminal.out("to pull: \(report.newChunks) chunks, \(Terminal.size(report.newPlainBytes)) of content\(unknown)\(stored)")
        }

        static func line(_ change: FlistChange) -> String {
            let path = FlistPath.quoted(change.path)
            switch change.kind {
            case .added: return "+ \(path)" + (change.after.map { suffix($0) } ?? "")
            case .removed: return "- \(path)" + (change.before.map { suffix($0) } ?? "")
            case .changed:
                guard let before = change.before, let after = change.after else { return "~ \(path)" }
                return "~ \(path): " + change.fields.map { describe($0, before, after) }.joined(separator: ", ")
            }
        }

        private static func suffix(_ side: FlistChange.Side) -> String {
            switch side.type {
            case "dir": "/"
            case "symlink": " -> " + FlistPath.quoted(side.target ?? [])
            case "file": ""
            default: " (\(side.type))"
            }
        }

        private static func describe(_ field: FlistChange.Field, _ a: FlistChange.Side, _ b: FlistChange.Side) -> String {
            switch field {
            case .type: "type \(a.type) to \(b.type)"
            case .mode: "mode \(octal(a.permissions)) to \(octal(b.permissions))"
            case .owner: "owner \(a.uid):\(a.gid) to \(b.uid):\(b.gid)"
            case .mtime: "mtime \(a.mtime) to \(b.mtime)"
            case .size: "size \(a.size) to \(b.size)"
            case .target: "target \(FlistPath.quoted(a.target ?? [])) to \(FlistPath.quoted(b.target ?? []))"
            case .device: "device \(numbers(a.device)) to \(numbers(b.device))"
            case .content: "content"
            }
        }

        private static func numbers(_ device: [UInt32]?) -> String { (device ?? []).map(String.init).joined(separator: ":") }

        static func octal(_ permissions: UInt16) -> String {
            let digits = String(permissions, radix: 8)
            return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
        }

        private struct Change: Encodable {
            struct Side: Encodable {
                let type: String
                let mode: String
                let uid: UInt32
                let gid: UInt32
                let mtime: Int64
                let size: UInt64
                let target: String?
                let targetHex: String?
                let rdev: [UInt32]?

                init(_ side: FlistChange.Side) {
                    (type, mode, uid, gid) = (side.type, octal(side.permissions), side.uid, side.gid)
                    (mtime, size, rdev) = (side.mtime, side.size, side.device)
                    let text = side.target.map { ForeignText($0) }
                    (target, targetHex) = (text?.text, text?.hex)
                }
            }
            let path: String
            let pathHex: String?
            let change: String
            let fields: [String]
            let before: Side?
            let after: Side?

            init(_ change: FlistChange) {
                let text = ForeignText(change.path)
                (path, pathHex) = (text.text, text.hex)
                self.change = change.kind.rawValue
                fields = change.fields.map(\.rawValue)
                (before, after) = (change.before.map { Side($0) }, change.after.map { Side($0) })
            }
        }

        private struct Sums: Encodable {
            struct Pull: Encodable {
                let chunks: Int
                let plainBytes: UInt64
                let chunksOfUnknownSize: Int
                let storedBytes: UInt64
                let storedBytesOfChunks: Int
            }
            let equal: Bool
            let added: Int
            let removed: Int
            let changed: Int
            let toPull: Pull
            let problems: Int

            init(_ report: DiffReport) {
                (equal, added, removed, changed) = (report.isEqual, report.added, report.removed, report.changed)
                toPull = Pull(
                    chunks: report.newChunks, plainBytes: report.newPlainBytes, chunksOfUnknownSize: report.newChunksOfUnknownSize,
                    storedBytes: report.newStoredBytes, storedBytesOfChunks: report.newChunksStored)
                problems = report.problemCount
            }
        }
    }
}
