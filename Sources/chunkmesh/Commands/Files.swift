import ArgumentParser
import ControlClient
import ControlModel
import Glibc

struct List: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "Lists a directory of an flist.")

    @Argument(help: "FLIST:PATH") var target: FlistTarget
    @Flag(name: .shortAndLong, help: "With modes, owners, sizes and times.") var long = false
    @OptionGroup var options: APIOptions

    func run() throws {
        let tree = try Listing.whole(target, try options.client())
        if options.json { return try Terminal.json(tree) }
        let entries = tree.entry.type == .dir ? tree.entries : [tree.entry]
        for entry in entries { Terminal.out(long ? Listing.line(entry) : Terminal.quoted(entry.name)) }
        for problem in tree.problems { Terminal.error("chunkmesh: left out: \(Terminal.quoted(problem))") }
        if !tree.problems.isEmpty { throw ExitCode(1) }
    }
}

struct Stat: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Shows one entry of an flist.")

    @Argument(help: "FLIST:PATH") var target: FlistTarget
    @OptionGroup var options: APIOptions

    func run() throws {
        let client = try options.client()
        let tree: Tree = try client.get(try client.open(target.flist) + "/tree" + ControlClient.escape(path: target.path))
        if options.json { return try Terminal.json(tree.entry) }
        Terminal.out("path   \(tree.path)")
        Terminal.out("type   \(tree.entry.type.rawValue)")
        Terminal.out("size   \(tree.entry.size)")
        Terminal.out("mode   \(tree.entry.mode)")
        Terminal.out("owner  \(tree.entry.uid):\(tree.entry.gid)")
        Terminal.out("mtime  \(tree.entry.mtime)")
        if let target = tree.entry.target { Terminal.out("target \(Terminal.quoted(target))") }
        if let rdev = tree.entry.rdev { Terminal.out("device \(rdev.map(String.init).joined(separator: ":"))") }
    }
}

/// Listings put together from the pages that the daemon sends.
enum Listing {
    static func whole(_ target: FlistTarget, _ client: ControlClient) throws -> Tree {
        let base = try client.open(target.flist) + "/tree" + ControlClient.escape(path: target.path)
        var tree: Tree = try client.get(base)
        while let next = tree.next {
            let page: Tree = try client.get(base + "?after=" + next)
            tree.entries += page.entries
            tree.problems += page.problems
            tree.next = page.next
        }
        tree.entries.sort { Array($0.name.utf8).lexicographicallyPrecedes(Array($1.name.utf8)) }
        return tree
    }

    static func line(_ entry: TreeEntry) -> String {
        let kind =
            switch entry.type {
            case .file: "-"
            case .dir: "d"
            case .symlink: "l"
            case .fifo: "p"
            case .socket: "s"
            case .chrdev: "c"
            case .blkdev: "b"
            }
        let size = String(entry.size)
        let padding = String(repeating: " ", count: max(0, 12 - size.count))
        let link = entry.target.map { " -> " + Terminal.quoted($0) } ?? ""
        return "\(kind)\(entry.mode) \(entry.uid):\(entry.gid)\t\(padding)\(size) \(entry.mtime) \(Terminal.quoted(entry.name))\(link)"
    }
}

struct Cat: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Writes a file of an flist to stdout; only the chunks of the range travel.")

    @Argument(help: "FLIST:PATH") var target: FlistTarget
    @Option(help: "First byte.") var offset: UInt64 = 0
    @Option(help: "Bytes; default: to the end.") var length: UInt64?
    @OptionGroup var options: APIOptions

    func run() throws {
        let client = try options.client()
        let path = try client.open(target.flist) + "/files" + ControlClient.escape(path: target.path)
        if length == 0 { return }
        var range: String?
        if offset > 0 || length != nil {
            let last = length.map { length in offset.addingReportingOverflow(length - 1).overflow ? "" : String(offset + length - 1) } ?? ""
            range = "\(offset)-\(last)"
        }
        do {
            try client.stream(path, range: range) { Terminal.write(1, $0) }
        } catch {
            switch error {
            // The reader has had enough; or the range lies behind the end of the file: nothing to write, as with dd and tail.
            case .stopped, .refused(status: 416, _): break
            case .usage, .noDaemon, .refused, .broken: throw error
            }
        }
    }
}
