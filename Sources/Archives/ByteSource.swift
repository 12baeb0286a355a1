internal import Glibc

/// Where an archive's bytes come from: fills the buffer from its start and says how many bytes it put there; 0 at the end.
public typealias ByteSource = (UnsafeMutableRawBufferPointer) throws -> Int

/// An open file, closed with its last reference.
final class ArchiveFile {
    private let descriptor: Int32
    private let label: String

    /// - Throws: `unreadable` when it cannot be opened, or is no regular file.
    init(path: String, label: String) throws(ArchiveError) {
        // Not blocking: a pipe of that name must not hold us up.
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        self.label = label
        guard descriptor >= 0 else { throw ArchiveError(.unreadable, "\(label): \(String(cString: strerror(errno)))") }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw ArchiveError(.unreadable, "\(label): not a regular file")
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
        while true {
            let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            if count >= 0 { return count }
            guard errno == EINTR else { throw ArchiveError(.unreadable, "\(label): \(String(cString: strerror(errno)))") }
        }
    }
}
