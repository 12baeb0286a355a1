internal import ChunkModel
internal import Flist
internal import Glibc

/// Packs a directory into an `.fl` that rfs reads, and its content into stores (FORMATS.md §1).
///
/// The same tree gives the same file: directories are read in order of their names' bytes, block rows stand in order of the
/// files, and nothing of the host or of the moment is recorded (ctime is set to mtime, directory sizes to 4096).
public enum FlistPacker {
    /// Lines of `PackReport.problems` and `notes`; further ones are counted only.
    public static let maxLines = 10_000

    /// Blocks until all is done; memory stays at a few blocks for each worker, and the names of one directory.
    ///
    /// - Parameter progress: called on this thread, for each entry and each block; when it throws, packing stops, and no
    ///   flist is left behind.
    /// - Throws: when there can be no flist: the directory, the output or a store doesn't work.
    public static func pack(_ options: PackOptions, progress: ((PackProgress) throws -> Void)? = nil) throws -> PackReport {
        for byte in UInt8.min...UInt8.max where !options.stores.contains(where: { $0.range.contains(byte) }) {
            throw ToolError("no store for chunks whose id starts with \(Hex.encode([byte]))")
        }
        let shown = FlistPath.quoted(Array(options.directory.utf8))
        let descriptor = open(options.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ToolError.system(shown) }
        let root = DirectoryHandle(descriptor)

        let temporary = "\(options.output).\(getpid()).tmp"
        let file = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw ToolError.system(FlistPath.quoted(Array(temporary.utf8))) }
        defer { close(file) }
        do {
            let run = try PackRun(options, root: root, temporary: temporary, progress: progress)
            let report = try run.run()
            guard fsync(file) == 0, rename(temporary, options.output) == 0 else {
                throw ToolError.system(FlistPath.quoted(Array(options.output.utf8)))
            }
            return report
        } catch {
            unlink(temporary)
            throw error
        }
    }
}
