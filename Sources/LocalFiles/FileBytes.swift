internal import Glibc

/// Whole reads and writes of an open file, whatever signals and short counts come between. They block for as long as the disk takes.
package enum FileBytes {
    /// Writes all of `bytes` at `offset`.
    ///
    /// - Returns: 0, or the `errno`.
    package static func write(_ bytes: UnsafeRawBufferPointer, to fd: Int32, at offset: Int64 = 0) -> Int32 {
        var done = 0
        while done < bytes.count {
            let n = pwrite(fd, bytes.baseAddress! + done, bytes.count - done, off_t(offset) + done)
            if n < 0 {
                let code = errno
                if code == EINTR { continue }
                return code
            }
            // A regular file takes at least a byte or says why not.
            guard n > 0 else { return EIO }
            done += n
        }
        return 0
    }

    /// Reads into all of `target` from `offset`, or up to the end of the file.
    ///
    /// - Returns: bytes read, or `-errno`.
    package static func read(into target: UnsafeMutableRawBufferPointer, from fd: Int32, at offset: Int64 = 0) -> Int {
        var done = 0
        while done < target.count {
            let n = pread(fd, target.baseAddress! + done, target.count - done, off_t(offset) + done)
            if n < 0 {
                let code = errno
                if code == EINTR { continue }
                return -Int(code)
            }
            if n == 0 { break }
            done += n
        }
        return done
    }
}
