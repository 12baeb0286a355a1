internal import Flist
internal import Glibc

/// An empty file of our own in a directory, removed with its last reference unless it was moved away.
final class ScratchFile {
    let path: String

    init(in directory: String) throws(FlistError) {
        var template = Array((directory + "/chunkmesh-XXXXXX").utf8CString)
        let descriptor = mkstemp(&template)
        guard descriptor >= 0 else {
            throw FlistError(
                .unreadable,
                "no temporary file can be made in \(FlistPath.quoted(Array(directory.utf8))): \(String(cString: strerror(errno)))")
        }
        close(descriptor)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { unlink(path) }

    /// Brings it to the disk and gives it its name, in place of what has it.
    func publish(as name: String, mode: mode_t) throws(FlistError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        defer { if descriptor >= 0 { close(descriptor) } }
        guard descriptor >= 0, fchmod(descriptor, mode) == 0, fsync(descriptor) == 0, rename(path, name) == 0 else {
            throw FlistError(.unreadable, "\(FlistPath.quoted(Array(name.utf8))): \(String(cString: strerror(errno)))")
        }
    }
}
