import BlockCodec
import ChunkModel
@testable import Flist

extension FuzzTarget {
    /// A whole `.fl` file: opened, checked, and read in every way that a node and the tools read one.
    static let flist = FuzzTarget(
        name: "flist", maxLength: 64 << 10, maxMegabytes: 768, maxSeconds: 20,
        seeds: {
            ScratchFile.fixtures("malformed", suffix: ".fl", upTo: 10 << 10) + [ScratchFile.database(small)]
        },
        run: { bytes in ScratchFile.with(bytes, suffix: ".fl") { read(flistAt: $0) } })

    /// A file, a link and a directory with a file in it.
    private static let small = """
        CREATE TABLE inode (ino INTEGER PRIMARY KEY, parent, name, size, uid, gid, mode, rdev, ctime, mtime);
        CREATE TABLE extra (ino INTEGER PRIMARY KEY, data); CREATE TABLE block (ino INTEGER, id, key);
        CREATE TABLE tag (key PRIMARY KEY, value); CREATE TABLE route (start, end, url);
        INSERT INTO inode VALUES (1, 0, '/', 0, 0, 0, 16877, 0, 0, 0), (2, 1, 'a', 9, 0, 0, 33188, 0, 0, 0),
            (3, 1, 'l', 3, 0, 0, 41471, 0, 0, 0), (4, 1, 'd', 0, 0, 0, 16877, 0, 0, 0), (5, 4, 'b', 9, 0, 0, 33188, 0, 0, 0);
        INSERT INTO extra VALUES (3, CAST('d/b' AS BLOB)); INSERT INTO route VALUES (0, 255, 'dir:///s');
        INSERT INTO block VALUES (2, zeroblob(32), zeroblob(32)), (5, zeroblob(32), zeroblob(32));
        CREATE INDEX parents ON inode (parent); CREATE INDEX names ON inode (name); CREATE INDEX block_ino ON block (ino);
        """

    private static func read(flistAt path: String) {
        if let flist = try? FlistFile(path: path) { read(flist) }
    }

    /// In every way that a node and the tools read one.
    static func read(_ flist: FlistFile) {
        try? flist.checkIntegrity()
        _ = try? flist.uniqueChunks()
        _ = try? flist.blockRows(after: nil, limit: .max)
        _ = try? flist.totals()
        var walker = FlistWalker(flist, below: flist.root())
        var items = 0
        do throws(FlistError) {
            while let item = try walker.next() {
                items += 1
                switch item {
                case .problem(let problem): fuzzCheck(!problem.line.isEmpty, "a problem without a line")
                case .entry(let visit):
                    let entry = visit.entry
                    fuzzCheck(FlistPath.refusal(ofName: entry.name) == nil, "a name that is refused was listed")
                    fuzzCheck(entry.ino != flist.root().ino, "the root is somebody's child")
                    // The first ones only: each look-up may cost what the whole file does.
                    guard items < 64 else { continue }
                    if entry.isFile, let blocks = try? flist.blocks(of: entry) {
                        fuzzCheck(UInt64(blocks.count) <= entry.size, "more blocks than bytes")
                    }
                    if let found = try? flist.resolve(visit.path, followLinks: false) {
                        fuzzCheck(found.name == entry.name, "a path leads to another name")
                    }
                    _ = try? flist.resolve(visit.path)
                }
            }
        } catch {
            fuzzCheck(!error.description.isEmpty, "an error without a line")
        }
        _ = try? flist.children(of: flist.root().ino, after: 2, limit: 3)
    }
}
