internal import Flist
internal import Glibc

/// Packs a directory into an `.fl` that rfs reads, and its content into stores (FORMATS.md §1).
///
/// The same tree gives the same file: directories are read in order of their names' bytes, block rows stand in order of the
/// files, and nothing of the host or of the moment is recorded (ctime is set to mtime, directory sizes to 4096).
public enum FlistPacker {
    /// Lines of `PackReport.problems` and `notes`; further ones are counted only.
    public static let maxLines = 10_000

    /// Blocks until all is done: never on the cooperative pool. Memory stays at the blocks under way, and the names of the directories
    /// that are still to be read.
    ///
    /// - Parameter progress: called on this thread, for each entry and each block, and while it waits; when it throws, packing stops,
    ///   and no flist is left behind.
    /// - Throws: when there can be no flist: the directory, the output or a store doesn't work.
    public static func pack(_ options: PackOptions, progress: ((PackProgress) throws -> Void)? = nil) throws -> PackReport {
        let shown = FlistPath.quoted(Array(options.directory.utf8))
        let descriptor = open(options.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw ToolError.system(shown) }
        let root = DirectoryHandle(descriptor)
        let session = try PackSession(options.session)
        do {
            let report = try PackRun(options, root: root, session: session, progress: progress).run()
            try session.finish()
            return report
        } catch {
            session.abort()
            throw error
        }
    }
}
