import ControlClient
import Glibc

/// A small file that is there as a whole or not at all.
enum NewFile {
    /// Replaces what is at `path`, through a temporary file beside it.
    static func write(_ bytes: [UInt8], to path: String, mode: mode_t) throws {
        let temporary = "\(path).new-\(getpid())"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw failure(path) }
        defer { close(descriptor) }
        guard Terminal.write(descriptor, bytes), fsync(descriptor) == 0, rename(temporary, path) == 0 else {
            let error = failure(path)
            unlink(temporary)
            throw error
        }
    }

    private static func failure(_ path: String) -> ControlError {
        .broken("\(path) cannot be written: \(String(cString: strerror(errno)))")
    }
}
