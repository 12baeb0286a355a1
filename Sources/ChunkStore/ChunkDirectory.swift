internal import CLinux
internal import ChunkModel
internal import Glibc
internal import LocalFiles
internal import Synchronization

/// The files of the chunks below the cache directory: `chunks/XX/HEX` by the first byte of the id, and `tmp/` beside them on
/// the same device. Knows nothing of sizes, quota or use.
///
/// Chunks are not fsynced one by one: that would cost a disk flush for each 512 KiB, for bytes that the mesh has elsewhere.
/// What that means: a SIGKILL loses nothing, since the page cache outlives the process and the rename is done only when all
/// bytes are written; a power loss may lose or tear the newest chunks, which their hash tells before they are served
/// (an unclean stop makes every chunk unverified); an orderly stop flushes the file system before it says "clean".
final class ChunkDirectory: Sendable {
    /// Chunk files are read by the daemon alone.
    private static let mode: mode_t = 0o600

    let path: String
    let root: FileHandle
    private let chunks: FileHandle
    private let temporary: FileHandle
    private let counter = Atomic<UInt64>(0)

    /// Creates what is missing, and removes what a stopped process left in `tmp/`. The caller holds the directory's lock.
    init(path: String) throws {
        self.path = path
        do {
            root = try Posix.handle(path, O_RDONLY | O_DIRECTORY)
            for name in ["tmp", "chunks"] + (0..<256).map({ "chunks/" + Hex.encode([UInt8($0)]) }) {
                guard mkdirat(root.fd, name, 0o755) != 0, errno != EEXIST else { continue }
                throw ChunkStoreError.failed(action: "create", path: path + "/" + name, code: errno)
            }
            chunks = try Posix.handle("chunks", at: root.fd, O_RDONLY | O_DIRECTORY)
            temporary = try Posix.handle("tmp", at: root.fd, O_RDONLY | O_DIRECTORY)
            var orphans: [String] = []
            try Posix.forEachName(in: ".", at: temporary.fd) { orphans.append($0) }
            for name in orphans { unlinkat(temporary.fd, name, 0) }
        } catch ChunkStoreError.failed(_, _, let code) {
            throw ChunkStoreError.unusable(directory: path, code: code)
        }
    }

    /// A temporary file that is not yet a chunk.
    struct Temporary { let name: String }

    /// Writes `bytes` to a temporary file; on failure nothing stays behind.
    ///
    /// - Returns: the file, or the `errno`.
    func writeTemporary(_ bytes: UnsafeRawBufferPointer) -> (file: Temporary?, code: Int32) {
        let name = String(counter.wrappingAdd(1, ordering: .relaxed).newValue, radix: 36)
        let fd = Posix.open(name, at: temporary.fd, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: Self.mode)
        guard fd >= 0 else { return (nil, -fd) }
        var code = FileBytes.write(bytes, to: fd)
        // Network file systems report a full disk at close only.
        if close(fd) != 0, code == 0, errno != EINTR { code = errno }
        if code != 0 {
            unlinkat(temporary.fd, name, 0)
            return (nil, code)
        }
        return (Temporary(name: name), 0)
    }

    /// Gives the temporary file the chunk's name.
    ///
    /// - Returns: 0, or the `errno`; the temporary file is gone in either case.
    func publish(_ file: Temporary, as id: ChunkID) -> Int32 {
        for attempt in 0...1 {
            if Self.withName(of: id, { renameat(temporary.fd, file.name, chunks.fd, $0) }) == 0 { return 0 }
            let code = errno
            // Somebody tidied the shard away.
            if code == ENOENT, attempt == 0, mkdirat(chunks.fd, Hex.encode([id.firstByte]), 0o755) == 0 { continue }
            unlinkat(temporary.fd, file.name, 0)
            return code
        }
        return ENOENT
    }

    func discard(_ file: Temporary) { unlinkat(temporary.fd, file.name, 0) }

    /// - Returns: the file descriptor, or `-errno`.
    func open(_ id: ChunkID) -> Int32 {
        Self.withName(of: id) { Posix.open($0, at: chunks.fd, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) }
    }

    /// - Returns: `nil` when there is no such regular file.
    func status(of id: ChunkID) -> stat? {
        var status = stat()
        let result = Self.withName(of: id) { fstatat(chunks.fd, $0, &status, AT_SYMLINK_NOFOLLOW) }
        return result == 0 && Posix.isRegular(status) ? status : nil
    }

    func unlink(_ id: ChunkID) {
        _ = Self.withName(of: id) { unlinkat(chunks.fd, $0, 0) }
    }

    /// Calls `body` with each chunk file and its size, from names and sizes alone. Files with other names are left alone.
    func forEachFile(_ body: (ChunkID, Int64) -> Void) throws {
        for byte in UInt8.min...UInt8.max {
            let shard = Hex.encode([byte])
            try Posix.forEachName(in: shard, at: chunks.fd) { name in
                guard let id = ChunkID(hex: name), id.firstByte == byte, name == id.hex, let status = status(of: id) else { return }
                body(id, Int64(status.st_size))
            }
        }
    }

    /// Bytes that an unprivileged process may still write, and the size of the partition; `nil` when it does not tell.
    func space() -> (free: Int64, total: Int64)? {
        var status = statvfs()
        guard fstatvfs(root.fd, &status) == 0 else { return nil }
        func bytes(_ blocks: UInt) -> Int64 {
            let (bytes, overflow) = blocks.multipliedReportingOverflow(by: status.f_frsize)
            return overflow ? ChunkStoreLimits.mostBytes : ChunkStoreLimits.bounded(Int64(clamping: bytes))
        }
        return (bytes(status.f_bavail), bytes(status.f_blocks))
    }

    /// Brings everything that was written to the device.
    func sync() { _ = syncfs(root.fd) }

    /// Runs `body` with `XX/HEX` as a C string.
    private static func withName<R>(of id: ChunkID, _ body: (UnsafePointer<CChar>) -> R) -> R {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 3 + 64 + 1) { name in
            var end = 3
            for byte in id.bytes {
                name[end] = digit(byte >> 4)
                name[end + 1] = digit(byte & 15)
                end += 2
            }
            (name[0], name[1], name[2], name[end]) = (name[3], name[4], CChar(bitPattern: UInt8(ascii: "/")), 0)
            return body(name.baseAddress!)
        }
    }

    private static func digit(_ value: UInt8) -> CChar {
        CChar(bitPattern: value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10)
    }
}
