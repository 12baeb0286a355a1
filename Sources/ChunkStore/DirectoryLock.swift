internal import Glibc
internal import LocalFiles

/// Holds a directory for one process: an exclusive `flock` on its `lock` file, which names the holder's pid.
///
/// The kernel lets go of the lock when the process ends, however it ends, so nothing has to be cleaned up after a SIGKILL.
final class DirectoryLock: Sendable {
    private let file: FileHandle

    /// - Throws: `ChunkStoreError.inUse` with the pid of the holder; `.unusable` when the file cannot be made.
    init(directory: String) throws {
        let fd = Posix.open(directory + "/lock", at: AT_FDCWD, O_RDWR | O_CREAT | O_NOFOLLOW, mode: 0o644)
        guard fd >= 0 else { throw ChunkStoreError.unusable(directory: directory, code: -fd) }
        file = FileHandle(fd)
        guard flock(fd, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            guard code == EWOULDBLOCK else { throw ChunkStoreError.unusable(directory: directory, code: code) }
            throw ChunkStoreError.inUse(directory: directory, pid: Self.holder(of: fd))
        }
        // On a full disk the pid may not fit; the lock holds all the same.
        ftruncate(fd, 0)
        let text = Array("\(getpid())\n".utf8)
        _ = text.withUnsafeBytes { FileBytes.write($0, to: fd) }
    }

    func release() { _ = flock(file.fd, LOCK_UN) }

    private static func holder(of fd: Int32) -> Int32? {
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = bytes.withUnsafeMutableBytes { FileBytes.read(into: $0, from: fd) }
        guard count > 0 else { return nil }
        return Int32(String(decoding: bytes[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
    }
}
