/// What `stat` shows of an inode, and for how long the kernel may believe it.
public struct FuseAttributes: Sendable, Equatable {
    public var ino: UInt64
    public var size: UInt64
    /// Seconds since 1970; negative ones travel as two's complement.
    public var mtime: Int64
    public var ctime: Int64
    /// Type and permissions.
    public var mode: UInt32
    public var links: UInt32
    public var uid: UInt32
    public var gid: UInt32
    /// As the kernel encodes it for 32 bits.
    public var device: UInt32

    public init(
        ino: UInt64, size: UInt64, mtime: Int64, ctime: Int64, mode: UInt32, links: UInt32, uid: UInt32, gid: UInt32, device: UInt32
    ) {
        (self.ino, self.size, self.mtime, self.ctime, self.mode) = (ino, size, mtime, ctime, mode)
        (self.links, self.uid, self.gid, self.device) = (links, uid, gid, device)
    }

    /// What `stat` recommends as the size of reads.
    static let preferredRead: UInt32 = 1 << 17

    /// Device numbers in the 32 bits of the protocol (new_encode_dev of the kernel): 12 bits of major, 20 of minor. `nil` for larger ones.
    public static func device(major: UInt32, minor: UInt32) -> UInt32? {
        guard major < 1 << 12, minor < 1 << 20 else { return nil }
        return (minor & 0xff) | major << 8 | (minor & ~0xff) << 12
    }

    static let bytes = 88

    func encode(into reply: inout FuseReply) {
        reply.append(ino)
        reply.append(size)
        reply.append(size / 512 &+ (size % 512 == 0 ? 0 : 1))
        reply.append(UInt64(bitPattern: mtime))  // atime
        reply.append(UInt64(bitPattern: mtime))
        reply.append(UInt64(bitPattern: ctime))
        reply.append(UInt32(0))
        reply.append(UInt32(0))
        reply.append(UInt32(0))
        reply.append(mode)
        reply.append(links)
        reply.append(uid)
        reply.append(gid)
        reply.append(device)
        reply.append(Self.preferredRead)
        reply.append(UInt32(0))  // flags
    }
}

/// How many bytes and inodes a file system holds.
public struct FuseStatistics: Sendable, Equatable {
    public var bytes: UInt64
    public var inodes: UInt64
    public init(bytes: UInt64, inodes: UInt64) { (self.bytes, self.inodes) = (bytes, inodes) }

    static let blockBytes: UInt32 = 4096
    static let maxName: UInt32 = 255
}
