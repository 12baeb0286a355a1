internal import Glibc
internal import LocalFiles
internal import Synchronization

/// A directory of small files that the node keeps (identity, jobs, pins): each replaced as a whole, durable when the call
/// returns. Blocking.
public final class StateDirectory: Sendable {
    /// Between the name and the number of a file that is being written; such files are swept away at the next start.
    private static let temporaryMark = ".tmp-"
    private static let counter = Atomic<UInt64>(0)

    public let path: String

    /// Creates the directory where it is missing (mode 0700).
    ///
    /// - Throws: `ChunkStoreError.unusable`.
    public init(_ path: String) throws {
        self.path = path
        try Posix.makeDirectories(path, mode: 0o700)
    }

    /// Writes a temporary file, fsyncs it and renames it over `name`, so that after a crash either the old bytes or the new ones
    /// stand there.
    ///
    /// - Parameter mode: the access rights; by default only the daemon's user may read it.
    public func writeAtomically(_ name: String, _ bytes: some Collection<UInt8>, mode: UInt32 = 0o600) throws {
        let target = try file(name)
        let temporary = path + "/" + Self.temporaryMark + "\(getpid())-\(Self.counter.wrappingAdd(1, ordering: .relaxed).newValue)"
        let handle = try Posix.handle(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: mode, action: "create")
        do {
            let code = Array(bytes).withUnsafeBytes { FileBytes.write($0, to: handle.fd) }
            guard code == 0 else { throw ChunkStoreError.failed(action: "write", path: target, code: code) }
            guard fchmod(handle.fd, mode) == 0, fsync(handle.fd) == 0, rename(temporary, target) == 0 else {
                throw ChunkStoreError.failed(action: "write", path: target, code: errno)
            }
        } catch {
            unlink(temporary)
            throw error
        }
        fsync(try Posix.handle(path, O_RDONLY | O_DIRECTORY).fd)
    }

    /// - Returns: the bytes, `nil` when there is no such file.
    /// - Throws: `ChunkStoreError.tooLarge` beyond `maxBytes`, before anything is read.
    public func read(_ name: String, maxBytes: Int64) throws -> [UInt8]? {
        let target = try file(name)
        let fd = Posix.open(target, at: AT_FDCWD, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
        guard fd >= 0 else {
            if fd == -ENOENT { return nil }
            throw ChunkStoreError.failed(action: "read", path: target, code: -fd)
        }
        let handle = FileHandle(fd)
        guard let status = Posix.status(of: fd), Posix.isRegular(status) else {
            throw ChunkStoreError.failed(action: "read", path: target, code: EINVAL)
        }
        guard Int64(status.st_size) <= maxBytes else { throw ChunkStoreError.tooLarge(what: target, limit: maxBytes) }
        var code: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: Int(status.st_size)) { buffer, filled in
            let count = FileBytes.read(into: UnsafeMutableRawBufferPointer(buffer), from: handle.fd)
            if count < 0 { code = Int32(-count) }
            filled = max(0, count)
        }
        guard code == 0 else { throw ChunkStoreError.failed(action: "read", path: target, code: code) }
        return bytes
    }

    /// - Returns: whether the file was there.
    @discardableResult
    public func remove(_ name: String) throws -> Bool {
        let target = try file(name)
        if unlink(target) == 0 { return true }
        let code = errno
        guard code == ENOENT else { throw ChunkStoreError.failed(action: "remove", path: target, code: code) }
        return false
    }

    /// The names of all files, sorted; hidden ones (being written) left out.
    public func names() throws -> [String] {
        var names: [String] = []
        try Posix.forEachName(in: path, at: AT_FDCWD) { if !$0.hasPrefix(".") { names.append($0) } }
        return names.sorted()
    }

    /// Removes what a process that was killed while writing left; for the start, when nobody writes.
    public func removeLeftovers() throws {
        var leftovers: [String] = []
        try Posix.forEachName(in: path, at: AT_FDCWD) { if $0.hasPrefix(Self.temporaryMark) { leftovers.append($0) } }
        for name in leftovers { unlink(path + "/" + name) }
    }

    private func file(_ name: String) throws -> String {
        guard !name.isEmpty, name.utf8.count <= 255, !name.hasPrefix("."),
            !name.utf8.contains(where: { $0 == UInt8(ascii: "/") || $0 == 0 })
        else { throw ChunkStoreError.badName(name) }
        return path + "/" + name
    }
}
