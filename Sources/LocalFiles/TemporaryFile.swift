internal import Glibc

/// An empty file in the directory for such, which goes with its last reference.
package final class TemporaryFile: Sendable {
    package let path: String

    /// `TMPDIR`, or /tmp.
    package static var directory: String { getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp" }

    package init() throws(TemporaryFileError) {
        let directory = Self.directory
        var template = Array((directory + "/chunkmesh-XXXXXX").utf8CString)
        let descriptor = mkstemp(&template)
        guard descriptor >= 0 else {
            throw TemporaryFileError(description: "no temporary file can be made in \(directory): \(String(cString: strerror(errno)))")
        }
        close(descriptor)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { unlink(path) }
}

/// One line: why there is none.
package struct TemporaryFileError: Error, CustomStringConvertible { package let description: String }
