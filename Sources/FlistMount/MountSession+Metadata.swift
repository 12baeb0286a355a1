internal import BlockingThreads
internal import Flist
internal import FuseProtocol
internal import Glibc
internal import Synchronization

extension MountSession {
    /// Puts the answer's body into `reply`.
    ///
    /// - Returns: errno, 0 for success; `nil` when there is no answer, or it comes by itself later.
    func answer(_ request: FuseRequest, _ device: FuseDevice, _ reply: inout FuseReply) throws(FlistError) -> Int32? {
        switch request.body {
        case .lookup(let name):
            counters.withLock { $0.lookups += 1 }
            guard let entry = try tree.entry(name, in: request.node) else {
                reply.entry(nil)
                return 0
            }
            guard let attributes = tree.attributes(entry) else { return EOVERFLOW }
            reply.entry(attributes)
            return 0
        case .getattr:
            counters.withLock { $0.attributes += 1 }
            guard let entry = try tree.entry(request.node) else { return ESTALE }
            guard let attributes = tree.attributes(entry) else { return EOVERFLOW }
            reply.attributes(attributes)
            return 0
        case .readlink:
            guard let entry = try tree.entry(request.node), case .symlink(let target) = entry.kind else { return EINVAL }
            reply.content(target)
            return 0
        case .open(let flags):
            return open(request, flags, device)
        case .read(let read):
            self.read(request, read, device)
            return nil
        case .opendir:
            guard tellsOpendirs else { return ENOSYS }
            reply.opened(handle: 0, .directory)
            return 0
        case .readdir(let read):
            return try list(request.node, read, withAttributes: false, &reply)
        case .readdirplus(let read):
            return try list(request.node, read, withAttributes: true, &reply)
        case .release:
            released(request.node, device)
            return 0
        case .releasedir, .destroy:
            return 0
        case .statfs:
            statistics(request.unique, device)
            return nil
        case .interrupt(let unique):
            if let read = pending.interrupt(unique) { fail(read.unique, read.device, EINTR) }
            return nil
        case .forget, .batchForget:
            // Inode numbers are the flist's own: there is nothing to count.
            return nil
        case .getxattr, .listxattr, .lseek:
            // For the kernel this means: never ask again. It says "not supported" from now on, and seeks as in a file without holes.
            return ENOSYS
        case .other(let opcode):
            counters.withLock { $0.others += 1 }
            switch opcode {
            case let opcode where opcode.isChange: return EROFS
            case .ioctl: return ENOTTY
            case .syncfs: return 0
            default: return ENOSYS
            }
        case .initialise, .malformed: return EPROTO
        case .unknown: return ENOSYS
        }
    }

    /// One stretch of a directory's listing. Cookies: 1 behind `.`, 2 behind `..`, then the entries' numbers plus one, which grow.
    private func list(
        _ node: UInt64, _ read: FuseRead, withAttributes: Bool, _ reply: inout FuseReply
    ) throws(FlistError) -> Int32 {
        counters.withLock { $0.listings += 1 }
        guard let ino = Int64(exactly: node) else { return ESTALE }
        let limit = min(Int(read.size), Self.listingBytes)
        if read.offset < 2 {
            guard let directory = try flistDirectory(ino) else { return ENOTDIR }
            let parent = directory.parent == 0 ? node : UInt64(directory.parent)
            for (cookie, name, number) in [(UInt64(1), ".", node), (2, "..", parent)] where read.offset < cookie {
                let entry = FuseDirectoryEntry(ino: number, cookie: cookie, name: Array(name.utf8), type: 4)
                guard withAttributes ? reply.add(entry, nil, limit: limit) : reply.add(entry, limit: limit) else { return 0 }
            }
        }
        if read.offset == 0, let next = tree.listings.follower(of: ino) {
            copying.start { [listings = tree.listings] in listings.readAhead(next) }
        }
        let after = read.offset <= 2 ? 0 : Int64(clamping: read.offset - 1)
        try tree.listings.list(ino, after: after) { entry in
            guard let attributes = tree.attributes(entry) else { return true }
            let line = FuseDirectoryEntry(
                ino: UInt64(entry.ino), cookie: UInt64(entry.ino) + 1, name: entry.name, type: FlistTree.type(entry))
            return withAttributes ? reply.add(line, attributes, limit: limit) : reply.add(line, limit: limit)
        }
        return 0
    }

    private func flistDirectory(_ ino: Int64) throws(FlistError) -> FlistEntry? {
        guard let entry = try tree.flist.inode(ino), entry.isDirectory else { return nil }
        return entry
    }

    /// Sums take reading all inodes the first time: not on a thread that others wait for.
    private func statistics(_ unique: UInt64, _ device: FuseDevice) {
        counters.withLock { $0.others += 1 }
        copying.start { [self] in
            guard let total = try? tree.total() else { return fail(unique, device, EIO) }
            var reply = FuseReply()
            reply.statistics(total)
            reply.finish(unique: unique)
            device.send(reply)
        }
    }
}
