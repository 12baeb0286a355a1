internal import BlockCodec
public import ChunkModel
public import Flist

extension FlistCloner {
    /// Writes the flist anew, as an `.fl` with other routes. Entries that are refused are left out, and named. Blocks.
    ///
    /// - Returns: the refused entries, a line each; at most `maxLines`.
    public static func write(_ flist: FlistFile, to output: String, routes: [Route]) throws -> [String] {
        try NewFlist.write(output) { writer in try copyRows(of: flist, to: writer, routes: routes) }
    }

    private static func copyRows(of flist: FlistFile, to writer: FlistWriter, routes: [Route]) throws -> [String] {
        var problems: [String] = []
        for route in routes { try writer.add(route: route) }
        for tag in flist.tags { try writer.add(tag: tag) }
        try writer.add(FlistWriter.Row(flist.root()))
        var walker = FlistWalker(flist, below: flist.root())
        while let item = try walker.next() {
            switch item {
            case .problem(let problem):
                if problems.count < maxLines { problems.append(problem.line) }
            case .entry(let visit):
                try writer.add(FlistWriter.Row(visit.entry))
                guard visit.entry.isFile else { continue }
                let refs: [BlockRef]
                do throws(FlistError) { refs = try flist.blocks(of: visit.entry) } catch {
                    guard error.code == .badBlocks else { throw error }
                    if problems.count < maxLines { problems.append("\(FlistPath.quoted(visit.path)): \(error.message)") }
                    continue
                }
                for ref in refs { try writer.add(ref, to: visit.entry.ino) }
            }
        }
        return problems
    }
}

extension FlistWriter.Row {
    /// The row of an entry of another flist.
    init(_ entry: FlistEntry) {
        var (type, rdev): (UInt32, UInt64) = (0, 0)
        var target: [UInt8]?
        switch entry.kind {
        case .file: type = 0o100000
        case .directory: type = 0o040000
        case .symlink(let bytes): (type, target) = (0o120000, bytes)
        case .fifo: type = 0o010000
        case .socket: type = 0o140000
        case .charDevice(let major, let minor): (type, rdev) = (0o020000, DeviceNumber.encoded(major: major, minor: minor))
        case .blockDevice(let major, let minor): (type, rdev) = (0o060000, DeviceNumber.encoded(major: major, minor: minor))
        }
        self.init(
            ino: entry.ino, parent: entry.parent, name: entry.name,
            size: entry.isDirectory ? 4096 : Int64(clamping: entry.size), uid: entry.uid, gid: entry.gid,
            mode: type | UInt32(entry.permissions), rdev: rdev, mtime: entry.mtime, ctime: entry.ctime, target: target)
    }
}
