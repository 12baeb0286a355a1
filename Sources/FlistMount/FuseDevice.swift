internal import CLinux
internal import FuseProtocol
internal import Glibc

/// One descriptor of a FUSE connection. What is read from it must be answered on it.
final class FuseDevice: Sendable {
    /// _IOR(229, 0, uint32_t), _IOW(229, 1, struct fuse_backing_map), _IOW(229, 2, uint32_t).
    private static let cloneRequest: UInt = 0x8004_e500
    private static let backingOpenRequest: UInt = 0x4010_e501
    private static let backingCloseRequest: UInt = 0x4004_e502

    let descriptor: Int32

    /// - Parameter owning: an open descriptor of `/dev/fuse`.
    init(owning descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }

    static func open() throws(MountError) -> FuseDevice { FuseDevice(owning: try openDescriptor()) }

    static func openDescriptor() throws(MountError) -> Int32 {
        let descriptor = Glibc.open("/dev/fuse", O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw MountError(.system, "/dev/fuse: \(String(cString: strerror(errno))); is the fuse module there, and is its use allowed?")
        }
        return descriptor
    }

    /// Another descriptor of the same connection, with requests of its own; `nil` where the kernel grants none.
    func clone() -> FuseDevice? {
        let other = Glibc.open("/dev/fuse", O_RDWR | O_CLOEXEC)
        guard other >= 0 else { return nil }
        var number = UInt32(bitPattern: descriptor)
        guard chunkmesh_ioctl(other, Self.cloneRequest, &number) == 0 else {
            close(other)
            return nil
        }
        return FuseDevice(owning: other)
    }

    enum Received: Sendable {
        case bytes(Int)
        /// Unmounted, or ended by somebody else.
        case ended
        case failed(Int32)
    }

    /// Waits for a request.
    func receive(into buffer: UnsafeMutableRawBufferPointer) -> Received {
        while true {
            let count = read(descriptor, buffer.baseAddress, buffer.count)
            if count >= 0 { return .bytes(count) }
            switch errno {
            // ENOENT: taken back before it was read.
            case EINTR, ENOENT, EAGAIN: continue
            case ENODEV, ECONNABORTED: return .ended
            default: return .failed(errno)
            }
        }
    }

    /// Sends an answer, and what belongs behind it.
    ///
    /// - Returns: `false` when nobody waits for it any more.
    @discardableResult
    func send(_ reply: FuseReply, _ following: [UnsafeRawBufferPointer] = []) -> Bool {
        reply.bytes.withUnsafeBytes { head in
            var pieces = [iovec(iov_base: UnsafeMutableRawPointer(mutating: head.baseAddress), iov_len: head.count)]
            for piece in following where !piece.isEmpty {
                pieces.append(iovec(iov_base: UnsafeMutableRawPointer(mutating: piece.baseAddress), iov_len: piece.count))
            }
            while true {
                if writev(descriptor, pieces, Int32(pieces.count)) >= 0 { return true }
                if errno != EINTR { return false }
            }
        }
    }

    enum Backing: Sendable {
        case id(Int32)
        /// This file lies where the kernel cannot take it from.
        case unsuitable
        /// It takes none from this process.
        case refused
    }

    func openBacking(_ file: Int32) -> Backing {
        // struct fuse_backing_map: descriptor, flags, padding.
        var map: (Int32, UInt32, UInt64) = (file, 0, 0)
        let id = chunkmesh_ioctl(descriptor, Self.backingOpenRequest, &map)
        if id > 0 { return .id(id) }
        return errno == EPERM || errno == ENOTTY || errno == EOPNOTSUPP ? .refused : .unsuitable
    }

    func closeBacking(_ id: Int32) {
        var number = UInt32(bitPattern: id)
        _ = chunkmesh_ioctl(descriptor, Self.backingCloseRequest, &number)
    }
}
