public import Flist
internal import FuseProtocol
internal import Glibc
internal import Synchronization

/// The metadata of a mounted flist as the kernel is told of it. Inode numbers are the flist's own: they are the same after a restart.
///
/// Calls block on the flist's file, for as long as a disk takes.
public final class FlistTree: Sendable {
    public let flist: FlistFile
    /// Owners that everything is given in place of the recorded ones.
    private let uid: UInt32?
    private let gid: UInt32?
    let listings: DirectoryListings
    private let statistics = Mutex<FuseStatistics?>(nil)
    /// Sizes of files that are being read; all are forgotten when there are too many.
    private let sizes = Mutex<[UInt64: UInt64]>([:])
    private static let maxSizes = 4096

    public init(flist: FlistFile, uid: UInt32? = nil, gid: UInt32? = nil) {
        (self.flist, self.uid, self.gid) = (flist, uid, gid)
        listings = DirectoryListings(flist: flist)
    }

    /// The entry behind a number that the kernel names; `nil` when there is none.
    func entry(_ node: UInt64) throws(FlistError) -> FlistEntry? {
        guard let ino = Int64(exactly: node) else { return nil }
        return try flist.inode(ino)
    }

    /// The entry `name` of a directory, `.` and `..` too; `nil` when there is none.
    func entry(_ name: [UInt8], in node: UInt64) throws(FlistError) -> FlistEntry? {
        guard let ino = Int64(exactly: node) else { return nil }
        if name == [UInt8(ascii: ".")] { return try flist.inode(ino) }
        if name == [UInt8(ascii: "."), UInt8(ascii: ".")] {
            guard let directory = try flist.inode(ino) else { return nil }
            return directory.parent == 0 ? directory : try flist.inode(directory.parent)
        }
        return try flist.lookup(parent: ino, name: name)
    }

    /// - Returns: `nil` for a device whose number does not fit the protocol.
    func attributes(_ entry: FlistEntry) -> FuseAttributes? {
        var device: UInt32 = 0
        switch entry.kind {
        case .charDevice(let major, let minor), .blockDevice(let major, let minor):
            guard let number = FuseAttributes.device(major: major, minor: minor) else { return nil }
            device = number
        default: break
        }
        // A directory's number of links would take reading it: 1 says "not counted", as on btrfs. Files of an flist have one name.
        return FuseAttributes(
            ino: UInt64(entry.ino), size: entry.size, mtime: entry.mtime, ctime: entry.ctime,
            mode: Self.type(entry) << 12 | UInt32(entry.permissions), links: 1, uid: uid ?? entry.uid, gid: gid ?? entry.gid, device: device
        )
    }

    /// Bytes of the file `node`.
    ///
    /// - Throws: `notFound` when it is none.
    func size(_ node: UInt64) throws(FlistError) -> UInt64 {
        if let known = sizes.withLock({ $0[node] }) { return known }
        guard let entry = try entry(node), entry.isFile else { throw FlistError(.notFound, "inode \(node) is no file") }
        sizes.withLock { sizes in
            if sizes.count >= Self.maxSizes { sizes.removeAll(keepingCapacity: true) }
            sizes[node] = entry.size
        }
        return entry.size
    }

    /// The upper four bits of the mode.
    static func type(_ entry: FlistEntry) -> UInt32 {
        switch entry.kind {
        case .fifo: 1
        case .charDevice: 2
        case .directory: 4
        case .blockDevice: 6
        case .file: 8
        case .symlink: 10
        case .socket: 12
        }
    }

    /// Sums over the flist: reads all of its inodes, once.
    func total() throws -> FuseStatistics {
        if let known = statistics.withLock({ $0 }) { return known }
        var sum = FuseStatistics(bytes: 0, inodes: 0)
        try flist.forEachInodeSize { size in
            sum.inodes += 1
            let (bytes, overflow) = sum.bytes.addingReportingOverflow(size)
            sum.bytes = overflow ? .max : bytes
        }
        statistics.withLock { [sum] in $0 = sum }
        return sum
    }

    /// The errno that stands for what the flist has to say.
    static func errno(for error: FlistError) -> Int32 {
        switch error.code {
        case .notFound: ENOENT
        case .notDirectory: ENOTDIR
        case .linkLoop: ELOOP
        case .notFlist, .damaged, .unreadable, .badEntry, .badBlocks: EIO
        }
    }
}
