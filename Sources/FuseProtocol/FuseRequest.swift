/// One request of the kernel, as read from `/dev/fuse`.
public struct FuseRequest: Sendable, Equatable {
    /// What an answer names; 0 for requests that get none.
    public let unique: UInt64
    /// The inode that it is about; 1 is the root.
    public let node: UInt64
    /// Of the process that asks; 0 where the kernel hides it.
    public let uid: UInt32
    public let gid: UInt32
    public let pid: UInt32
    public let body: Body

    public enum Body: Sendable, Equatable {
        case initialise(FuseInitRequest)
        /// The name's bytes: not empty, without NUL. The kernel asks for `.` and `..` on behalf of NFS.
        case lookup(name: [UInt8])
        /// No answer.
        case forget
        /// No answer.
        case batchForget(count: Int)
        case getattr
        case readlink
        case open(flags: UInt32)
        case opendir
        case read(FuseRead)
        case readdir(FuseRead)
        case readdirplus(FuseRead)
        case release(handle: UInt64)
        case releasedir
        case statfs
        /// Bytes that the asker has room for; 0 asks for the size.
        case getxattr(name: [UInt8], room: UInt32)
        case listxattr(room: UInt32)
        case lseek(offset: UInt64, whence: UInt32)
        /// The request of this `unique` is no longer wanted. No answer.
        case interrupt(unique: UInt64)
        /// The file system is gone. Answered by nothing but success.
        case destroy
        /// Anything else that is known and needs no arguments here.
        case other(FuseOpcode)
        /// A code of a newer kernel.
        case unknown(UInt32)
        /// Its bytes do not make up the operation that its code names.
        case malformed(FuseOpcode)
    }

    /// Bytes of the header before each request.
    public static let headerBytes = 40
    /// What a buffer for `read(2)` on the device holds at least: the kernel refuses smaller ones (FUSE_MIN_READ_BUFFER).
    public static let minBuffer = 8192
    /// Forgotten inodes in one request that are looked at; the kernel sends fewer.
    static let maxForgets = 1 << 16

    /// - Parameter bytes: what one `read(2)` returned. `nil` when not even a header can be made of it: then there is nobody to answer to.
    public init?(_ bytes: RawSpan) {
        let wire = WireReader.self
        guard let length = wire.uint32(bytes, 0), let code = wire.uint32(bytes, 4), let unique = wire.uint64(bytes, 8),
            let node = wire.uint64(bytes, 16), let uid = wire.uint32(bytes, 24), let gid = wire.uint32(bytes, 28),
            let pid = wire.uint32(bytes, 32), bytes.byteCount >= Self.headerBytes
        else { return nil }
        (self.unique, self.node, self.uid, self.gid, self.pid) = (unique, node, uid, gid, pid)
        guard let opcode = FuseOpcode(rawValue: code) else {
            body = .unknown(code)
            return
        }
        // What is behind the stated length is no part of the request; what is missing makes it malformed.
        guard Int(length) >= Self.headerBytes, Int(length) <= bytes.byteCount else {
            body = .malformed(opcode)
            return
        }
        body = Self.body(opcode, bytes, end: Int(length)) ?? .malformed(opcode)
    }

    private static func body(_ opcode: FuseOpcode, _ bytes: RawSpan, end: Int) -> Body? {
        let wire = WireReader.self
        let at = headerBytes
        func needs(_ count: Int) -> Bool { end - at >= count }
        switch opcode {
        case .initialise:
            guard needs(8), let major = wire.uint32(bytes, at), let minor = wire.uint32(bytes, at + 4) else { return nil }
            // From another major version on, nothing but the version is known.
            guard major == 7, needs(16), let readAhead = wire.uint32(bytes, at + 8), let low = wire.uint32(bytes, at + 12) else {
                return .initialise(FuseInitRequest(major: major, minor: minor, maxReadAhead: 0, flags: []))
            }
            let isExtended = low & FuseInitFlags.extended.lowWord != 0 && needs(20)
            let high = isExtended ? wire.uint32(bytes, at + 16) ?? 0 : 0
            let flags = FuseInitFlags(rawValue: UInt64(high) << 32 | UInt64(low))
            return .initialise(FuseInitRequest(major: major, minor: minor, maxReadAhead: readAhead, flags: flags))
        case .lookup:
            guard let name = wire.name(bytes, from: at, to: end) else { return nil }
            return .lookup(name: name)
        case .forget: return needs(8) ? .forget : nil
        case .batchForget:
            guard needs(8), let count = wire.uint32(bytes, at), count <= maxForgets, needs(8 + Int(count) * 16) else { return nil }
            return .batchForget(count: Int(count))
        case .getattr: return .getattr
        case .readlink: return .readlink
        case .open:
            guard needs(8), let flags = wire.uint32(bytes, at) else { return nil }
            return .open(flags: flags)
        case .opendir: return needs(8) ? .opendir : nil
        case .read, .readdir, .readdirplus:
            guard needs(24), let handle = wire.uint64(bytes, at), let offset = wire.uint64(bytes, at + 8),
                let size = wire.uint32(bytes, at + 16)
            else { return nil }
            let read = FuseRead(handle: handle, offset: offset, size: size)
            return opcode == .read ? .read(read) : opcode == .readdir ? .readdir(read) : .readdirplus(read)
        case .release:
            guard needs(16), let handle = wire.uint64(bytes, at) else { return nil }
            return .release(handle: handle)
        case .releasedir: return needs(16) ? .releasedir : nil
        case .statfs: return .statfs
        case .getxattr:
            guard needs(8), let room = wire.uint32(bytes, at), let name = wire.name(bytes, from: at + 8, to: end) else { return nil }
            return .getxattr(name: name, room: room)
        case .listxattr:
            guard needs(8), let room = wire.uint32(bytes, at) else { return nil }
            return .listxattr(room: room)
        case .lseek:
            guard needs(20), let offset = wire.uint64(bytes, at + 8), let whence = wire.uint32(bytes, at + 16) else { return nil }
            return .lseek(offset: offset, whence: whence)
        case .interrupt:
            guard needs(8), let unique = wire.uint64(bytes, at) else { return nil }
            return .interrupt(unique: unique)
        case .destroy: return .destroy
        case .setattr, .symlink, .mknod, .mkdir, .unlink, .rmdir, .rename, .link, .write, .fsync, .setxattr, .removexattr, .flush,
            .fsyncdir,
            .getlk, .setlk, .setlkw, .access, .create, .bmap, .ioctl, .poll, .notifyReply, .fallocate, .rename2, .copyFileRange,
            .setupMapping, .removeMapping, .syncfs, .tmpfile, .statx:
            return .other(opcode)
        }
    }

    /// Whether the kernel waits for an answer: it takes one to these for a fault.
    public var wantsAnswer: Bool {
        switch body {
        case .forget, .batchForget, .interrupt, .malformed(.forget), .malformed(.batchForget), .malformed(.interrupt),
            .other(.notifyReply), .malformed(.notifyReply):
            false
        default: unique != 0
        }
    }
}

/// A piece of a file, or of a directory's listing.
public struct FuseRead: Sendable, Equatable {
    /// What OPEN was answered with.
    public let handle: UInt64
    /// Bytes from the start of a file; in a directory the cookie of the entry before.
    public let offset: UInt64
    /// Bytes that the kernel has room for.
    public let size: UInt32

    public init(handle: UInt64, offset: UInt64, size: UInt32) { (self.handle, self.offset, self.size) = (handle, offset, size) }
}
