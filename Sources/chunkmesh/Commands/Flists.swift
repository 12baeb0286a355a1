import ArgumentParser
import ControlClient
import ControlModel

struct Pin: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Keeps the chunks of an flist on this node when the cache has to make room.")
    @Argument(help: "Local file, http(s) URL, or known name.") var flist: String
    @OptionGroup var options: APIOptions

    func run() throws {
        let client = try options.client()
        let known: KnownFlist = try client.post(try client.open(flist) + "/pin", OpenRequest?.none)
        if options.json {
            try Terminal.json(known)
        } else {
            Terminal.out("\(Terminal.quoted(known.name)): \(known.chunks) chunks are pinned on this node")
        }
    }
}

struct Unpin: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lets the chunks of an flist be evicted again.")
    @Argument(help: "Known name or digest.") var flist: String
    @OptionGroup var options: APIOptions

    func run() throws {
        let known: KnownFlist = try options.client().post(ControlClient.resource(FlistName.forDaemon(flist)) + "/unpin", OpenRequest?.none)
        if options.json { try Terminal.json(known) } else { Terminal.out("\(Terminal.quoted(known.name)): no longer pinned") }
    }
}

struct Unkeep: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Ends the site's goal to keep copies of an flist (prefetch --copies).",
        discussion: "On all nodes of the site, those included that are away now. The chunks stay until room is needed.")
    @Argument(help: "Known name or digest.") var flist: String
    @OptionGroup var options: APIOptions

    func run() throws {
        let known: KnownFlist = try options.client().post(ControlClient.resource(FlistName.forDaemon(flist)) + "/unkeep", OpenRequest?.none)
        if options.json {
            try Terminal.json(known)
        } else {
            Terminal.out("\(Terminal.quoted(known.name)): no number of copies is kept any more")
        }
    }
}

struct Forget: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes this node forget an flist.",
        discussion: "Its jobs end, and the site's goal to keep copies of it; its chunks stay in the cache until room is needed.")
    @Argument(help: "Known name or digest.") var flist: String
    @OptionGroup var options: APIOptions

    func run() throws {
        let known: KnownFlist = try options.client().delete(ControlClient.resource(FlistName.forDaemon(flist)))
        if options.json { try Terminal.json(known) } else { Terminal.out("\(Terminal.quoted(known.name)): forgotten") }
    }
}

struct Cache: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Looks after the cache of this node.", subcommands: [Verify.self, GC.self, Export.self, Import.self])

    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Hashes every chunk of the cache and removes those that are wrong.")
        @OptionGroup var options: APIOptions

        func run() throws {
            let report: CacheReport = try options.client().post("/v1/cache/verify", OpenRequest?.none)
            if options.json {
                try Terminal.json(report)
            } else {
                Terminal.out(
                    "\(report.chunks) chunks checked, \(Terminal.size(report.bytes)); \(report.removed.count) were wrong and are removed")
                for id in report.removed { Terminal.error("chunkmesh: removed \(id)") }
            }
            if !report.removed.isEmpty { throw ExitCode(1) }
        }
    }

    struct GC: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "gc", abstract: "Makes room down to the low mark, least used first; pinned chunks stay.")
        @OptionGroup var options: APIOptions

        func run() throws {
            let report: CacheReport = try options.client().post("/v1/cache/gc", OpenRequest?.none)
            if options.json { return try Terminal.json(report) }
            Terminal.out("\(Terminal.size(report.freedBytes)) freed; \(report.chunks) chunks, \(Terminal.size(report.bytes)) are left")
        }
    }
}
