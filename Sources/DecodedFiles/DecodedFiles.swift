public import BlockCodec
public import BlockingThreads
public import ChunkModel
internal import Glibc
public import Logging
internal import Synchronization

/// A bounded cache of decoded files on disk, so that content is decrypted and decompressed once, and read from the page cache then.
///
/// Files are sparse and filled block by block; what is ready of one is noted in memory, written down at an orderly stop only: after any other end
/// all of them are dropped. Those used longest ago go first, those whose descriptor a client holds after the others.
public final class DecodedFiles: Sendable {
    /// Files that are kept at most, however small; beyond, those used longest ago go.
    public static let maxFiles = 65_536
    /// Blocks of a file that is kept (128 GiB of content); larger ones are decoded for each read.
    public static let maxBlocks = 1 << 18
    /// Files that are kept open; beyond, half of them are closed, and opened again when needed.
    static let maxOpen = 256
    /// Share of the room that one eviction frees beyond its need, so that evictions are rare.
    static let evictionShare: Int64 = 32

    public struct Statistics: Sendable, Equatable {
        public var bytes: Int64 = 0
        public var maxBytes: Int64 = 0
        public var files = 0
        /// Blocks that were decoded into files.
        public var decodedBlocks: UInt64 = 0
        /// Reads that found all their blocks decoded.
        public var hits: UInt64 = 0
        /// Reads that waited for blocks.
        public var misses: UInt64 = 0
        public var evictedFiles: UInt64 = 0
        /// Blocks for which there was no room.
        public var notKeptBlocks: UInt64 = 0
    }

    struct Table {
        var files: [ContentIdentity: DecodedFile] = [:]
        var numbers: UInt64 = 0
        var open = 0
        var isClosed = false
    }

    let directory: String
    let descriptor: Int32
    let queue: DecodeQueue
    let pool: ChunkBufferPool
    let logger: Logger
    let room: DecodedRoom
    let table = Mutex(Table())
    let counters = Mutex(Statistics())
    let clock = Atomic<UInt64>(1)
    /// One eviction at a time.
    let evicting = Mutex(())
    let onUnstored: @Sendable (BlockRef, ChunkBuffer) -> Void

    /// Opens the cache's directory, creating it where it is missing, and drops what an unclean stop left. Blocking.
    ///
    /// - Parameters:
    ///   - maxBytes: room for decoded files; 0 keeps none. `nil`: a tenth of the partition, 10 GiB at most.
    ///   - floor: free bytes on the partition that are left to others, by the partition's size.
    ///   - threads: for decoding and writing.
    ///   - onUnstored: gets decoded blocks for which there is no room, on one of the threads.
    /// - Throws: `DecodedFilesError`.
    public init(
        directory: String, maxBytes: Int64?, floor: @escaping @Sendable (Int64) -> Int64, threads: BlockingThreads, pool: ChunkBufferPool,
        logger: Logger, onUnstored: @escaping @Sendable (BlockRef, ChunkBuffer) -> Void
    ) throws(DecodedFilesError) {
        (self.directory, self.pool, self.logger, self.onUnstored) = (directory, pool, logger, onUnstored)
        queue = DecodeQueue(threads: threads)
        descriptor = try Self.openDirectory(directory)
        room = DecodedRoom(directory: descriptor, maxBytes: maxBytes ?? Self.defaultBytes(descriptor), floor: floor)
        takeOver()
    }

    deinit { Glibc.close(descriptor) }

    /// A tenth of the partition, 10 GiB at most.
    private static func defaultBytes(_ directory: Int32) -> Int64 {
        var status = statvfs()
        guard fstatvfs(directory, &status) == 0 else { return 1 << 30 }
        let (bytes, overflow) = UInt64(status.f_blocks).multipliedReportingOverflow(by: UInt64(status.f_frsize))
        return min(10 << 30, overflow ? .max : Int64(clamping: bytes / 10))
    }

    /// Takes other bounds while running. Blocking: files may have to go.
    public func setLimits(maxBytes: Int64?, floor: @escaping @Sendable (Int64) -> Int64) {
        room.set(maxBytes: maxBytes ?? Self.defaultBytes(descriptor), floor: floor)
        if case .tooMuch(let over) = room.reserve(0) { evict(over, sparing: nil) }
    }

    public var statistics: Statistics {
        var out = counters.withLock { $0 }
        (out.bytes, out.maxBytes) = (room.bytes, room.maxBytes)
        out.files = table.withLock { $0.files.count }
        return out
    }

    /// Whether any file may be kept.
    public var isOn: Bool { room.maxBytes > 0 }

    /// The decoded file of this content, made where there is none yet. Blocking.
    ///
    /// - Parameters:
    ///   - size: of the file, from its inode.
    ///   - blocks: all of them, in order.
    /// - Returns: `nil` when the cache is off, the blocks cannot be cut as all writers cut them, or nothing can be created on the disk.
    public func file(size: UInt64, blocks: [BlockRef]) -> DecodedFile? {
        let need = size / UInt64(ChunkLimits.blockBytes) + (size % UInt64(ChunkLimits.blockBytes) == 0 ? 0 : 1)
        guard isOn, UInt64(blocks.count) == need, need <= UInt64(Self.maxBlocks) else { return nil }
        let identity = ContentIdentity(size: size, blocks: blocks)
        if let known = known(identity, size, blocks) {
            touch(known)
            return known.isUneven ? nil : known
        }
        if table.withLock({ $0.files.count }) >= Self.maxFiles { evict(room.bytes / Self.evictionShare, sparing: nil) }
        guard table.withLock({ $0.files.count }) < Self.maxFiles else { return nil }
        // Created under the table's lock, so that the name is this file's or nobody's.
        let (file, code) = table.withLock { table -> (DecodedFile?, Int32) in
            if let known = table.files[identity] { return (known, 0) }
            if table.isClosed { return (nil, 0) }
            let writer = openat(descriptor, identity.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard writer >= 0 else { return (nil, errno) }
            guard ftruncate(writer, off_t(size)) == 0 else {
                let code = errno
                Glibc.close(writer)
                unlinkat(descriptor, identity.name, 0)
                return (nil, code)
            }
            let reader = openat(descriptor, identity.name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
            guard reader >= 0 else {
                let code = errno
                Glibc.close(writer)
                unlinkat(descriptor, identity.name, 0)
                return (nil, code)
            }
            table.numbers += 1
            let file = DecodedFile(number: table.numbers, size: size, identity: identity, blocks: blocks, room: room)
            file.state.withLock { $0.handle = DecodedFile.Handle(writer: writer, reader: reader, threads: queue.threads) }
            table.files[identity] = file
            table.open += 1
            return (file, 0)
        }
        if code != 0 { diskFailed(code) }
        if let file {
            touch(file)
            closeSome()
        }
        return file
    }

    /// The decoded file of this content, if there is one.
    public func existing(size: UInt64, blocks: [BlockRef]) -> DecodedFile? {
        guard isOn, blocks.count == DecodedFile.blockCount(size), blocks.count <= Self.maxBlocks else { return nil }
        guard let known = known(ContentIdentity(size: size, blocks: blocks), size, blocks), !known.isUneven else { return nil }
        touch(known)
        return known
    }

    /// The file of that name. One of an earlier run gets to know its blocks.
    private func known(_ identity: ContentIdentity, _ size: UInt64, _ blocks: [BlockRef]) -> DecodedFile? {
        table.withLock { table in
            guard let file = table.files[identity], file.blocks.count != blocks.count else { return table.files[identity] }
            table.numbers += 1
            let new = DecodedFile(
                number: table.numbers, size: size, identity: identity, blocks: blocks, room: room, bits: file.state.withLock { $0.bits })
            table.files[identity] = new
            return new
        }
    }

    func touch(_ file: DecodedFile) { file.used.store(clock.wrappingAdd(1, ordering: .relaxed).newValue, ordering: .relaxed) }

    /// A read found its blocks ready.
    public func noteHit(_ file: DecodedFile) {
        touch(file)
        counters.withLock { $0.hits += 1 }
    }

    /// A read has to wait.
    public func noteMiss() { counters.withLock { $0.misses += 1 } }

    // MARK: Descriptors

    /// The file's descriptor for reading. Blocking.
    ///
    /// - Throws: `DecodedFileError.noRoom` when it is gone or cannot be opened.
    public func descriptor(of file: DecodedFile) throws(DecodedFileError) -> DecodedDescriptor {
        DecodedDescriptor(handle: try handle(of: file))
    }

    /// The file's descriptor if it is open at this moment: does not block.
    public func descriptorNow(of file: DecodedFile) -> DecodedDescriptor? {
        file.state.withLock { $0.handle }.map { DecodedDescriptor(handle: $0) }
    }

    func handle(of file: DecodedFile) throws(DecodedFileError) -> DecodedFile.Handle {
        if let handle = file.state.withLock({ $0.handle }) { return handle }
        // The table's lock keeps the name from going to another file meanwhile.
        let handle = table.withLock { table -> DecodedFile.Handle? in
            guard table.files[file.identity] === file else { return nil }
            if let handle = file.state.withLock({ $0.handle }) { return handle }
            let writer = openat(descriptor, file.identity.name, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
            guard writer >= 0 else { return nil }
            let reader = openat(descriptor, file.identity.name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
            guard reader >= 0 else {
                Glibc.close(writer)
                return nil
            }
            let handle = DecodedFile.Handle(writer: writer, reader: reader, threads: queue.threads)
            file.state.withLock { $0.handle = handle }
            table.open += 1
            return handle
        }
        guard let handle else { throw .noRoom }
        closeSome()
        return handle
    }

    /// Closes files that were not used lately; whoever uses one at this moment holds its handle.
    private func closeSome() {
        table.withLock { table in
            guard table.open > Self.maxOpen else { return }
            let open = table.files.values.filter { $0.state.withLock { $0.handle != nil } }
                .map { ($0, $0.used.load(ordering: .relaxed)) }.sorted { $0.1 < $1.1 }
            for (file, _) in open.prefix(max(0, open.count - Self.maxOpen / 2)) { file.state.withLock { $0.handle = nil } }
            table.open = min(open.count, Self.maxOpen / 2)
        }
    }
}

/// Why the cache of decoded files cannot be opened.
public struct DecodedFilesError: Error, Sendable, CustomStringConvertible {
    public let description: String
}
