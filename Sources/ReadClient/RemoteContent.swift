internal import Glibc
internal import LocalFiles

/// The decoded bytes of a file, by a descriptor that the daemon passed. What was said to be ready stays ready, also when the daemon has gone; other places
/// read as zeros, and are never to be looked at. The descriptor is closed, and the daemon told so, with the last reference.
public final class RemoteContent: Sendable {
    /// For reading; valid while this lives.
    public let descriptor: Int32
    public let size: UInt64
    let number: UInt64
    let epoch: UInt64
    private let link: Released

    /// The link, without keeping it.
    struct Released: Sendable { let tell: @Sendable (_ number: UInt64, _ epoch: UInt64) -> Void }

    init?(descriptor: Int32, number: UInt64, epoch: UInt64, link: Released) {
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, let size = UInt64(exactly: status.st_size) else {
            close(descriptor)
            return nil
        }
        (self.descriptor, self.size, self.number, self.epoch, self.link) = (descriptor, size, number, epoch, link)
    }

    deinit {
        close(descriptor)
        link.tell(number, epoch)
    }

    /// Copies bytes of a range that is ready. Blocks for as long as the disk takes.
    ///
    /// - Returns: bytes copied: all of `target`, fewer at the end of the file only.
    /// - Throws: `ReadClientError` when the disk fails.
    public func read(at offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(ReadClientError) -> Int {
        guard let start = Int64(exactly: offset) else { return 0 }
        let count = FileBytes.read(into: target, from: descriptor, at: start)
        guard count >= 0 else {
            throw ReadClientError(.broken, "the decoded file cannot be read: \(String(cString: strerror(Int32(-count))))")
        }
        return count
    }
}
