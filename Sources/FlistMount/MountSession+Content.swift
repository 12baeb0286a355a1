internal import BlockingThreads
internal import Flist
internal import FuseProtocol
internal import Glibc
internal import LocalFiles
internal import Synchronization

extension MountSession {
    /// OPEN: cached, or handed to the kernel.
    ///
    /// - Returns: errno, or `nil` when the answer is on its way.
    func open(_ request: FuseRequest, _ flags: UInt32, _ device: FuseDevice) -> Int32? {
        guard flags & UInt32(O_ACCMODE) == UInt32(O_RDONLY), flags & UInt32(O_TRUNC) == 0 else { return EROFS }
        guard tellsOpens else { return ENOSYS }
        counters.withLock { $0.opens += 1 }
        let (node, waiter) = (request.node, OpenWaiter(unique: request.unique, device: device))
        switch changeOpens(node, { $0.open(node, waiter) }) {
        case .wait: break
        case .cached: opened(waiter, node, nil)
        case .passthrough(let backing): opened(waiter, node, backing)
        case .decide:
            guard takesFiles, let ino = Int64(exactly: node) else {
                decided(waiter, node, backing: nil)
                break
            }
            Task.detached { [self] in
                decided(waiter, node, backing: await backing(ino, device))
            }
        }
        return nil
    }

    /// The kernel's id for the whole file, where there is one and the kernel takes it.
    private func backing(_ ino: Int64, _ device: FuseDevice) async -> Int32? {
        guard let file = await content.wholeFile(ino) else { return nil }
        switch device.openBacking(file.descriptor) {
        case .id(let id): return id
        case .unsuitable: return nil
        case .refused:
            takesNoFiles()
            return nil
        }
    }

    private func decided(_ first: OpenWaiter, _ node: UInt64, backing: Int32?) {
        let waiters = changeOpens(node) { $0.decided(node, backing: backing) }
        for waiter in [first] + waiters { opened(waiter, node, backing) }
    }

    private func opened(_ waiter: OpenWaiter, _ node: UInt64, _ backing: Int32?) {
        if backing != nil { counters.withLock { $0.passthroughOpens += 1 } }
        var reply = FuseReply(room: 32)
        reply.opened(handle: 0, backing.map { .passthrough(backing: $0) } ?? .cached)
        reply.finish(unique: waiter.unique)
        // Without a taker no RELEASE will come.
        if !waiter.device.send(reply) { released(node, waiter.device) }
    }

    func released(_ node: UInt64, _ device: FuseDevice) {
        if let backing = changeOpens(node, { $0.released(node) }) { device.closeBacking(backing) }
    }

    private func changeOpens<R: Sendable>(_ node: UInt64, _ change: (inout OpenTable<OpenWaiter>) -> R) -> R {
        opens.withLock { table in
            let result = change(&table)
            // Before the kernel is answered: who takes over after this process knows what the kernel knows.
            held?.note(node, table.state(of: node))
            return result
        }
    }

    /// READ: at once where the content is at hand, else in a task.
    func read(_ request: FuseRequest, _ read: FuseRead, _ device: FuseDevice) {
        counters.withLock { $0.reads += 1 }
        let unique = request.unique
        guard let ino = Int64(exactly: request.node) else { return fail(unique, device, ESTALE) }
        // The kernel takes a short answer for the end of the file, and shows zeros behind it: every answer is as long as it must be.
        guard let size = try? tree.size(request.node) else { return fail(unique, device, EIO) }
        let length = Int(min(UInt64(min(Int(read.size), Self.maxReadBytes)), size > read.offset ? size - read.offset : 0))
        guard length > 0 else { return fail(unique, device, 0) }
        if let piece = content.ready(ino, offset: read.offset, length: length) { return send(piece, length, unique, device) }
        let started = pending.start(unique, on: device, until: .now + timeout) { [self] in
            do {
                let piece = try await content.read(ino, offset: read.offset, length: length)
                guard pending.finish(unique) else { return }
                if case .file = piece {
                    copying.start { [self] in send(piece, length, unique, device) }
                } else {
                    send(piece, length, unique, device)
                }
            } catch {
                guard pending.finish(unique) else { return }
                counters.withLock { $0.failedReads += 1 }
                complain("inode \(ino), byte \(read.offset): \(error)")
                fail(unique, device, EIO)
            }
        }
        if !started { fail(unique, device, EINTR) }
    }

    private func send(_ piece: ContentPiece, _ needed: Int, _ unique: UInt64, _ device: FuseDevice) {
        guard piece.count == needed else {
            counters.withLock { $0.failedReads += 1 }
            complain("content of \(piece.count) bytes where \(needed) were asked for")
            return fail(unique, device, EIO)
        }
        var reply = FuseReply(room: 0)
        switch piece {
        case .slices(let slices):
            let bytes = slices.reduce(0) { $0 + $1.range.count }
            reply.finish(unique: unique, following: bytes)
            counters.withLock { $0.readBytes += bytes }
            // The buffers live as long as `slices`, whose memory does not move.
            withExtendedLifetime(slices) {
                _ = device.send(reply, slices.map { slice in slice.withBytes { $0 } })
            }
        case .bytes(let bytes):
            reply.finish(unique: unique, following: bytes.count)
            counters.withLock { $0.readBytes += bytes.count }
            bytes.withUnsafeBytes { _ = device.send(reply, [$0]) }
        case .file(let file, let offset, let length):
            buffers.with { buffer in
                let start = Int64(clamping: offset)
                let part = UnsafeMutableRawBufferPointer(rebasing: buffer.prefix(length))
                // What is missing is never taken for zeros.
                let count = FileBytes.read(into: part, from: file.descriptor, at: start)
                guard count == length else {
                    counters.withLock { $0.failedReads += 1 }
                    let reason = count < 0 ? String(cString: strerror(Int32(-count))) : "it ends after \(count) of \(length) bytes"
                    complain("decoded content cannot be read back: \(reason)")
                    return fail(unique, device, EIO)
                }
                reply.finish(unique: unique, following: length)
                counters.withLock { $0.readBytes += length }
                device.send(reply, [UnsafeRawBufferPointer(part)])
            }
        }
    }
}
