internal import BlockCodec
internal import ChunkModel
public import Flist

/// What merging did. It went wholly well when `problemCount` is 0.
public struct MergeReport: Sendable {
    public var entries = 0
    public var files = 0
    public var directories = 0
    public var bytes: UInt64 = 0
    public var blocks = 0
    public var routes = 0
    /// Entries of sources that are refused, and left out; at most `FlistPacker.maxLines`.
    public var problems: [String] = []
    public var problemCount = 0
    public var notes: [String] = []
}

/// Makes one flist of several, without moving chunks: **what a later one says counts.**
///
/// Directories of one path are united, and have owner, mode and time of the last flist that has them. Anything else of one path is taken
/// from the last flist that has it; a file hides a directory of earlier flists, with all below it, and the other way round. This is what
/// `rfs merge` and the layers of images do; `zflist merge` takes the flists the other way round (what it has is kept).
///
/// Every chunk stays reachable: the routes are those of all flists, without repetition. Of tags with one key the last one counts.
public enum FlistMerger {
    /// Flists that are merged at once.
    public static let maxFlists = 256

    /// - Parameters:
    ///   - flists: the first one is hidden by the others where they have the same path.
    ///   - check: called now and then; when it throws, merging stops, and there is no output.
    /// - Throws: `ToolError` when the flists cannot stand in one, `FlistError` when one is damaged.
    public static func merge(_ flists: [FlistFile], to output: String, check: () throws -> Void = {}) throws -> MergeReport {
        guard (1...maxFlists).contains(flists.count) else { throw ToolError("1 to \(maxFlists) flists can be merged") }
        for flist in flists { try flist.checkIntegrity() }
        let coding = try commonCoding(flists)
        var report = MergeReport()
        let tree = try LayerTree()
        // From the last one downwards, as the tree takes its layers.
        for (index, flist) in flists.enumerated().reversed() {
            try add(flist, as: Int64(index + 1), to: tree, &report, check)
        }
        let routes = self.routes(of: flists)
        var tags = try TagChanges(set: flists.flatMap(\.tags)).applied(to: [])
        tags.removeAll { $0.key == FlistTag.codec }
        if let coding, coding != .rfs { tags.append(FlistTag(key: FlistTag.codec, value: coding.name)) }
        report.routes = routes.count

        var gathered = report
        let written = try NewFlist.write(output) { writer in
            if routes.contains(where: { !$0.isPlain }) { try writer.addIndexTables(routes) }
            for route in routes where !route.isCache { try writer.add(route: route) }
            for tag in tags { try writer.add(tag: tag) }
            return try write(tree, of: flists, to: writer, &gathered, check)
        }
        report = gathered
        (report.entries, report.files, report.directories) = (written.entries, written.files, written.directories)
        report.bytes = written.bytes
        return report
    }

    private static func write(
        _ tree: LayerTree, of flists: [FlistFile], to writer: FlistWriter, _ report: inout MergeReport, _ check: () throws -> Void
    ) throws -> WrittenTree {
        var written = WrittenTree()
        var nextIno: Int64 = 1
        try tree.walk(check: check) { found in
            if found.entry.kind == .file {
                let flist = flists[Int(found.layer) - 1]
                do {
                    guard let entry = try flist.inode(found.entry.content) else { return 0 }
                    for ref in try flist.blocks(of: entry) {
                        try writer.add(ref, to: nextIno)
                        report.blocks += 1
                    }
                } catch let error as FlistError where error.code == .badBlocks {
                    report.problem("\(FlistPath.quoted(found.path)) of \(shown(flist)): \(error.message)")
                    return 0
                }
            }
            defer { nextIno += 1 }
            try writer.add(found.row(nextIno))
            written.count(found.entry)
            return nextIno
        }
        return written
    }

    private static func add(
        _ flist: FlistFile, as layer: Int64, to tree: LayerTree, _ report: inout MergeReport, _ check: () throws -> Void
    ) throws {
        for note in flist.notes { report.notes.append("\(shown(flist)): \(note)") }
        try tree.placeRoot(LayerTree.Entry(flist.root()), layer: layer)
        // The tree's number of each directory of the walk; 0 where an upper flist hides what is in it.
        var directories: [Int64] = [LayerTree.root]
        var walker = FlistWalker(flist, below: flist.root())
        while let item = try walker.next() {
            try check()
            switch item {
            case .problem(let problem): report.problem("\(shown(flist)): \(problem.line)")
            case .entry(let visit):
                let parent = directories[visit.directory]
                var id: Int64 = 0
                if parent != 0 {
                    switch try tree.place(LayerTree.Entry(visit.entry), name: visit.entry.name, in: parent, layer: layer) {
                    case .new(let new): id = new
                    case .united(let directory): id = try tree.node(directory)?.isOpen(to: layer) == true ? directory : 0
                    case .replaced(_, let new): id = new
                    case .hidden, .conflict: break
                    }
                }
                if visit.number != nil { directories.append(id) }
            }
        }
    }

    /// The routes of all flists, in their order, each one once.
    private static func routes(of flists: [FlistFile]) -> [Route] {
        var seen: Set<Route> = []
        return flists.flatMap(\.routes).filter { seen.insert($0).inserted }
    }

    /// The one codec of all blocks with ids of 32 bytes; `nil` when there are none. Legacy blocks go with every codec.
    private static func commonCoding(_ flists: [FlistFile]) throws -> BlockCoding? {
        var first: (flist: FlistFile, coding: BlockCoding)?
        for flist in flists {
            guard let coding = flist.blockCoding else {
                let name = flist.tags.first { $0.key == FlistTag.codec }?.value ?? ""
                throw ToolError(
                    "\(shown(flist)): its blocks are in the codec \(FlistPath.quoted(Array(name.utf8.prefix(40)))), which this version does not know"
                )
            }
            // Only where it matters: that takes reading the table.
            if let first, first.coding == coding { continue }
            guard try flist.uniqueChunks().contains(where: { $0.length == .full }) else { continue }
            if let first {
                throw ToolError(
                    "\(shown(first.flist)) has blocks in the codec \(first.coding.name), \(shown(flist)) in \(coding.name), and one .fl has one: unpack one of them and pack it again with --block-codec \(first.coding.name)"
                )
            }
            first = (flist, coding)
        }
        return first?.coding
    }

    private static func shown(_ flist: FlistFile) -> String { FlistPath.quoted(Array(flist.path.utf8)) }
}

extension MergeReport {
    fileprivate mutating func problem(_ line: String) {
        problemCount += 1
        if problems.count < FlistPacker.maxLines { problems.append(line) }
    }
}
