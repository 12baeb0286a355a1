internal import Flist
internal import Glibc
internal import SQLiteFile

/// An flist that is being written: a file beside its place, which it takes by rename once it is whole and on the disk.
enum NewFlist {
    /// Calls `body` with the writer of a new flist, which replaces what lies at `output` when all went well. Nothing of it is left behind
    /// otherwise: what lay there before stays.
    ///
    /// - Parameter like: a file whose permissions the new one gets.
    /// - Throws: what `body` throws; `ToolError` when the file cannot be written.
    static func write<R>(_ output: String, like: String? = nil, _ body: (FlistWriter) throws -> R) throws -> R {
        let shown = FlistPath.quoted(Array(output.utf8))
        let temporary = "\(output).\(getpid()).tmp"
        let file = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw ToolError.system(FlistPath.quoted(Array(temporary.utf8))) }
        defer { close(file) }
        do {
            var status = stat()
            if let like, stat(like, &status) == 0 { fchmod(file, status.st_mode & 0o777) }
            let writer = try FlistWriter(path: temporary)
            let result = try body(writer)
            try writer.finish()
            guard fsync(file) == 0, rename(temporary, output) == 0 else { throw ToolError.system(shown) }
            return result
        } catch {
            unlink(temporary)
            throw error is SQLiteError ? ToolError("\(shown): \(error)") : error
        }
    }
}
