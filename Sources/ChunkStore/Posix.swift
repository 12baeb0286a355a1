internal import Glibc

/// An open file that is closed with its last reference.
final class FileHandle: Sendable {
    let fd: Int32
    init(_ fd: Int32) { self.fd = fd }
    deinit { close(fd) }
}

/// System calls in the form that this target uses them: interrupted calls repeated, `errno` thrown as `ChunkStoreError`.
enum Posix {
    static func text(_ code: Int32) -> String { String(cString: strerror(code)) }

    static func isFull(_ code: Int32) -> Bool { code == ENOSPC || code == EDQUOT }

    /// - Returns: the file descriptor, or `-errno`.
    static func open(_ name: UnsafePointer<CChar>, at directory: Int32, _ flags: Int32, mode: mode_t = 0) -> Int32 {
        while true {
            let fd = openat(directory, name, flags | O_CLOEXEC, mode)
            if fd >= 0 { return fd }
            let code = errno
            if code != EINTR { return -code }
        }
    }

    static func handle(_ path: String, at directory: Int32 = AT_FDCWD, _ flags: Int32, mode: mode_t = 0, action: String = "open") throws
        -> FileHandle
    {
        let fd = open(path, at: directory, flags, mode: mode)
        guard fd >= 0 else { throw ChunkStoreError.failed(action: action, path: path, code: -fd) }
        return FileHandle(fd)
    }

    static func status(of fd: Int32) -> stat? {
        var status = stat()
        return fstat(fd, &status) == 0 ? status : nil
    }

    static func isRegular(_ status: stat) -> Bool { status.st_mode & S_IFMT == S_IFREG }

    /// Creates the directory and its missing parents.
    static func makeDirectories(_ path: String, mode: mode_t = 0o755) throws {
        var current = path.hasPrefix("/") ? "/" : ""
        for part in path.split(separator: "/") {
            current += (current.isEmpty || current.hasSuffix("/") ? "" : "/") + part
            guard mkdir(current, mode) != 0 else { continue }
            let code = errno
            if code == EEXIST { continue }
            // Parents may be unwritable or on a read-only device, as long as they exist.
            var status = stat()
            guard stat(current, &status) == 0 else { throw ChunkStoreError.unusable(directory: path, code: code) }
        }
        var status = stat()
        guard stat(path, &status) == 0 else { throw ChunkStoreError.unusable(directory: path, code: errno) }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw ChunkStoreError.unusable(directory: path, code: ENOTDIR) }
    }

    /// Calls `body` with each name in the directory, except `.` and `..`.
    static func forEachName(in path: String, at directory: Int32, _ body: (String) throws -> Void) throws {
        let fd = open(path, at: directory, O_RDONLY | O_DIRECTORY)
        guard fd >= 0 else { throw ChunkStoreError.failed(action: "list", path: path, code: -fd) }
        guard let stream = fdopendir(fd) else {
            let code = errno
            close(fd)
            throw ChunkStoreError.failed(action: "list", path: path, code: code)
        }
        defer { closedir(stream) }
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                let code = errno
                guard code == 0 else { throw ChunkStoreError.failed(action: "list", path: path, code: code) }
                return
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != "." && name != ".." { try body(name) }
        }
    }

    /// Nanoseconds since some point in the past, never going back.
    static func monotonicNanoseconds() -> UInt64 {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
    }

    /// Seconds since 1970, as they stand in the index.
    static func secondsNow() -> UInt32 { UInt32(clamping: time(nil)) }
}
