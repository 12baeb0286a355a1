public import ChunkModel
internal import Glibc
internal import LocalFiles
internal import Logging
internal import Synchronization

extension ChunkStore {
    /// What the index says of a chunk.
    private struct Held {
        let size: Int
        let isVerified: Bool
    }

    /// Opens a chunk to be sent. After an unclean stop its first use reads and hashes it; afterwards this is one `openat` and one
    /// `fstat`.
    ///
    /// - Returns: `nil` when the chunk is not held, or turned out torn or gone, and was dropped.
    /// - Throws: `ChunkStoreError.failed` when the process is out of descriptors or the like: the chunk is still held.
    public func open(_ id: ChunkID) throws -> OpenChunk? {
        var isBad = false
        guard let held = lookUp(id), let file = try openFile(id, held, &isBad) else { return nil }
        if !held.isVerified, try bytes(of: id, held, file, scratch, &isBad) == nil { return nil }
        return OpenChunk(id: id, size: held.size, file: file)
    }

    /// Reads a chunk and checks its hash.
    ///
    /// - Returns: `nil` when the chunk is not held, or turned out torn or gone, and was dropped.
    /// - Throws: `ChunkStoreError.failed` when the process is out of descriptors or the like: the chunk is still held.
    public func read(_ id: ChunkID, into pool: ChunkBufferPool) throws -> Chunk? {
        var isBad = false
        guard let held = lookUp(id), let file = try openFile(id, held, &isBad) else { return nil }
        return try bytes(of: id, held, file, pool, &isBad)
    }

    enum Inspection {
        case whole(Chunk)
        /// Not held, or evicted while it was looked at.
        case absent
        /// Torn or gone, and dropped now.
        case bad
    }

    /// Like `read`, but no use of the chunk: for checks.
    func inspect(_ id: ChunkID) throws -> Inspection {
        var isBad = false
        guard let held = lookUp(id, isUse: false) else { return .absent }
        if let file = try openFile(id, held, &isBad), let chunk = try bytes(of: id, held, file, scratch, &isBad) { return .whole(chunk) }
        return isBad ? .bad : .absent
    }

    private func lookUp(_ id: ChunkID, isUse: Bool = true) -> Held? {
        defer { offerReturning() }
        return state.withLock { state in
            guard !state.isClosed, let slot = state.table.heldSlot(of: id) else { return nil }
            let entry = state.table[slot]
            if isUse { touch(slot, in: &state) }
            return Held(size: Int(entry.size), isVerified: entry.isVerified)
        }
    }

    private func openFile(_ id: ChunkID, _ held: Held, _ isBad: inout Bool) throws -> FileHandle? {
        let fd = files.open(id)
        guard fd >= 0 else {
            switch -fd {
            case EMFILE, ENFILE, ENOMEM: throw ChunkStoreError.failed(action: "open chunk", path: "\(id)", code: -fd)
            default:
                isBad = dropUnlessWhole(id)
                return nil
            }
        }
        let file = FileHandle(fd)
        guard let status = Posix.status(of: fd), Posix.isRegular(status), Int(status.st_size) == held.size else {
            isBad = dropUnlessWhole(id)
            return nil
        }
        return file
    }

    private func bytes(
        of id: ChunkID, _ held: Held, _ file: FileHandle, _ pool: ChunkBufferPool, _ isBad: inout Bool
    ) throws -> Chunk? {
        let buffer = pool.take(capacity: held.size)
        let count = FileBytes.read(into: UnsafeMutableRawBufferPointer(start: buffer.base, count: held.size), from: file.fd)
        if count == -Int(ENOMEM) { throw ChunkStoreError.failed(action: "read chunk", path: "\(id)", code: ENOMEM) }
        buffer.count = max(0, count)
        guard count == held.size, let chunk = Chunk(verifying: buffer, as: id) else {
            isBad = dropTorn(id, file, count < 0 ? Posix.text(Int32(-count)) : "its bytes do not hash to its id")
            return nil
        }
        if !held.isVerified { setVerified(id, file) }
        return chunk
    }

    private func setVerified(_ id: ChunkID, _ file: FileHandle) {
        shard(of: id).mutex.withLock { _ in
            guard isStill(id, file) else { return }
            state.withLock { state in
                guard let slot = state.table.heldSlot(of: id) else { return }
                state.table.setVerified(slot)
                Self.note(id, in: &state)
            }
        }
    }

    /// The chunk is not (any longer) the file that the index knows: forgotten, unless it was stored anew meanwhile.
    private func dropUnlessWhole(_ id: ChunkID) -> Bool {
        let dropped = shard(of: id).mutex.withLock { _ in
            let size = files.status(of: id).map { Int64($0.st_size) }
            return state.withLock { state in
                guard let slot = state.table.heldSlot(of: id), size != Int64(state.table[slot].size) else { return false }
                _ = state.table.drop(id)
                state.vanished += 1
                Self.note(id, in: &state)
                return true
            }
        }
        if dropped { finishDrop(id, reason: "its file is gone or has another size") }
        return dropped
    }

    /// The bytes behind `file` are wrong: forgotten and removed, unless a newer file has taken the place.
    private func dropTorn(_ id: ChunkID, _ file: FileHandle, _ reason: String) -> Bool {
        let dropped = shard(of: id).mutex.withLock { _ in
            guard isStill(id, file) else { return false }
            return state.withLock { state in
                guard state.table.drop(id) != nil else { return false }
                state.torn += 1
                Self.note(id, in: &state)
                return true
            }
        }
        if dropped { finishDrop(id, reason: reason) }
        return dropped
    }

    private func finishDrop(_ id: ChunkID, reason: String) {
        logger.warning("chunk dropped from the cache", metadata: ["chunk": "\(id)", "reason": "\(reason)"])
        onRemoved([id])
        shard(of: id).mutex.withLock { _ in
            if state.withLock({ $0.table.heldSlot(of: id) == nil }) { files.unlink(id) }
        }
    }

    /// Whether the chunk's name still leads to this very file.
    private func isStill(_ id: ChunkID, _ file: FileHandle) -> Bool {
        guard let named = files.status(of: id), let opened = Posix.status(of: file.fd) else { return false }
        return named.st_ino == opened.st_ino && named.st_dev == opened.st_dev
    }
}

extension ChunkStore {
    /// Like `read`, but no use of the chunk: for copying a cache.
    public func copy(of id: ChunkID, into pool: ChunkBufferPool) throws -> Chunk? {
        var isBad = false
        guard let held = lookUp(id, isUse: false), let file = try openFile(id, held, &isBad) else { return nil }
        return try bytes(of: id, held, file, pool, &isBad)
    }
}
