internal import Flist
internal import Glibc

/// A copy of an flist's tables, for a user who may not open the daemon's file. Gone with this object: what reads it has opened it by then.
final class FlistCopy {
    static let pieceBytes = 1 << 20
    let path: String

    init(of source: Int32) throws(FlistError) {
        let directory = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array((directory + "/chunkmesh-XXXXXX").utf8CString)
        let descriptor = mkstemp(&template)
        guard descriptor >= 0 else {
            throw FlistError(.unreadable, "no temporary file can be made in \(directory): \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.pieceBytes, alignment: 4096)
        defer { buffer.deallocate() }
        var offset: off_t = 0
        while true {
            let count = pread(source, buffer.baseAddress, buffer.count, offset)
            if count < 0, errno == EINTR { continue }
            if count == 0 { return }
            var done = 0
            while done < count {
                let written = write(descriptor, buffer.baseAddress! + done, count - done)
                if written < 0, errno == EINTR { continue }
                guard written > 0 else { break }
                done += written
            }
            guard count > 0, done == count else {
                unlink(path)
                throw FlistError(.unreadable, "the flist cannot be copied to \(directory): \(String(cString: strerror(errno)))")
            }
            offset += off_t(count)
        }
    }

    deinit { unlink(path) }
}
