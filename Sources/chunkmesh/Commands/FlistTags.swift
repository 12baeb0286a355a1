import ArgumentParser
import BlockingThreads
import ChunkModel
import Flist
import FlistTools
import LegacyFlist

extension FlistCommand {
    struct Tags: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Lists an flist's tags, or changes them.",
            usage: """
                chunkmesh flist tags FLIST [--json]
                chunkmesh flist tags FLIST set KEY=VALUE ... [-o OUT.fl]
                chunkmesh flist tags FLIST remove KEY ... [-o OUT.fl]
                """,
            discussion: """
                A change writes the flist anew and puts it in the place of the old one, or at OUT.fl. Its digest is another one then, and a \
                signature must be made again; chunks stay as they are.
                """)

        @Argument(help: "Local file, http(s) URL, or known name; a local file to change.") var flist: String
        @Argument(help: "set KEY=VALUE ... or remove KEY ...") var change: [String] = []
        @Option(name: .shortAndLong, help: ArgumentHelp("Write there, and leave the original as it is.", valueName: "OUT.fl"))
        var output: String?
        @OptionGroup var options: APIOptions

        func validate() throws { _ = try changes() }

        private func changes() throws -> TagChanges? {
            guard let verb = change.first else {
                if output != nil { throw ValidationError("-o goes with set or remove") }
                return nil
            }
            let words = change.dropFirst()
            guard ["set", "remove"].contains(verb) else { throw ValidationError("set or remove, not \(verb)") }
            if words.isEmpty { throw ValidationError(verb == "set" ? "set takes KEY=VALUE" : "remove takes KEY") }
            if words.contains(where: { $0.split(separator: "=", omittingEmptySubsequences: false).first.map(String.init) == FlistTag.codec }
            ) {
                throw ValidationError("the tag \(FlistTag.codec) says how the blocks are coded, and is not changed by hand")
            }
            if verb == "remove" { return TagChanges(remove: Array(words)) }
            return TagChanges(
                set: try words.map { word in
                    guard let equals = word.firstIndex(of: "="), equals > word.startIndex else {
                        throw ValidationError("set takes KEY=VALUE, not \(word)")
                    }
                    return FlistTag(key: String(word[..<equals]), value: String(word[word.index(after: equals)...]))
                })
        }

        func run() async throws {
            guard let changes = try changes() else { return try await list() }
            try await FlistRewriting.run(flist, output: output, json: options.json) { flist in
                (try changes.applied(to: flist.tags), flist.routes)
            }
        }

        private func list() async throws {
            let local = FlistName.localFile(flist) != nil
            let access = try await FlistAccess.open(flist, stores: [], client: local ? nil : try options.client())
            let tags = access.flist.tags
            if options.json { return try Terminal.json(Document(tags: tags.map { .init(key: $0.key, value: $0.value) })) }
            for tag in tags {
                Terminal.out("\(FlistPath.quoted(Array(tag.key.utf8))) = \(FlistPath.quoted(Array(tag.value.utf8)))")
            }
        }

        private struct Document: Encodable {
            struct Tag: Encodable {
                let key: String
                let value: String
            }
            let tags: [Tag]
        }
    }
}

/// What `flist tags` and `flist routes` have in common.
enum FlistRewriting {
    /// Writes a local flist anew with other tags and routes.
    static func run(
        _ name: String, output: String?, json: Bool, _ change: @escaping @Sendable (FlistFile) throws -> ([FlistTag], [Route])
    ) async throws {
        guard let path = FlistName.localFile(name) else {
            throw ToolError("\(name): no such file (only a local flist can be changed)")
        }
        if case .legacy = try FlistFormat(path: path) {
            throw ToolError("\(Terminal.quoted(name)): a legacy .flist is not changed: make an .fl of it first (chunkmesh flist convert)")
        }
        Interrupt.cleanUpFirst()
        let target = output ?? path
        let (tags, routes) = try await BlockingThreads(count: 1).run {
            let flist = try FlistFile(path: path)
            let (tags, routes) = try change(flist)
            try FlistEditor.rewrite(flist, to: target, tags: tags, routes: routes) { try Interrupt.check() }
            return (tags.count, routes.count)
        }
        if FlistEditor.hasSignature(target) {
            Terminal.error("chunkmesh: note: \(target).minisig does not fit the new bytes: sign the flist again")
        }
        if json {
            try Terminal.json(Summary(flist: target, tags: tags, routes: routes))
        } else {
            Terminal.out("\(target): \(tags) tags, \(routes) routes")
        }
    }

    private struct Summary: Encodable {
        let flist: String
        let tags: Int
        let routes: Int
    }
}
