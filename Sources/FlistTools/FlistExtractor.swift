internal import BlockCodec
internal import BlockingThreads
internal import ChunkModel
public import Flist
internal import Glibc

/// Copies an flist, or a part of it, into a directory.
///
/// Everything is created relative to directory descriptors, exclusively, and without following links, so nothing can land
/// outside the destination, whatever the flist says. A bad entry is named and left out, the rest goes on. A file appears under its name
/// when it is complete, so a run that was interrupted is completed by the next one, which keeps what is there as recorded.
public enum FlistExtractor {
    /// Files under way at once where chunks come from afar; where they lie on this machine, each thread has one.
    static let filesInFlight = 16
    /// Blocks of one large file that are under way, and of all files together (0.5 MB each as a rule, 2 MB at most).
    static let blocksInFlight = 8
    static let allBlocksInFlight = 32
    /// Files of up to so many blocks are written from their start to their end by one thread, without a hop in between.
    static let smallBlocks = 4
    /// Lines of `ExtractReport.problems` and `notes`; further ones are counted only.
    public static let maxLines = 10_000

    /// - Parameter progress: called now and then, from any thread.
    /// - Throws: `FlistError` when the path is not in the flist or the flist is damaged, `ToolError` when the destination cannot
    ///   be written to or is full, `CancellationError`. What was completed until then stays.
    public static func extract(
        _ flist: FlistFile, _ options: ExtractOptions, from reader: BlockReader, progress: (@Sendable (ExtractProgress) -> Void)? = nil
    ) async throws -> ExtractReport {
        var direct: (@Sendable (BlockRef) throws -> ChunkBuffer)?
        if reader.isDirect { direct = { try reader.plainNow($0) } }
        return try await extract(flist, options, blocks: { try await reader.plainBlock($0) }, direct: direct, progress: progress)
    }

    /// The same with blocks from anywhere.
    public static func extract(
        _ flist: FlistFile, _ options: ExtractOptions, blocks: @escaping PlainBlockSource,
        progress: (@Sendable (ExtractProgress) -> Void)? = nil
    ) async throws -> ExtractReport {
        try await extract(flist, options, blocks: blocks, direct: nil, progress: progress)
    }

    private static func extract(
        _ flist: FlistFile, _ options: ExtractOptions, blocks: @escaping PlainBlockSource,
        direct: (@Sendable (BlockRef) throws -> ChunkBuffer)?, progress: (@Sendable (ExtractProgress) -> Void)?
    ) async throws -> ExtractReport {
        let threads = BlockingThreads(count: max(4, BlockingThreads.machineThreads))
        let run = ExtractRun(flist: flist, options: options, blocks: blocks, direct: direct, threads: threads, progress: progress)
        return try await withTaskCancellationHandler {
            let start = try await threads.run {
                try flist.checkIntegrity()
                return try flist.resolve(options.path)
            }
            if start.isDirectory { try await extractTree(start, run) } else { try await extractOne(start, run) }
            return run.report
        } onCancel: {
            run.stop(CancellationError())
        }
    }

    private static func extractOne(_ start: FlistEntry, _ run: ExtractRun) async throws {
        let (handle, name) = try await run.threads.run { try ExtractRun.place(of: start, at: run.options.destination) }
        let file = ExtractTree.File(entry: start, name: name, directory: handle, path: run.options.path)
        for job in try await run.threads.run({ try run.writeSmall([file]) }) { try await run.write(job) }
    }

    private static func extractTree(_ start: FlistEntry, _ run: ExtractRun) async throws {
        let destination = run.options.destination
        let root = try await run.threads.run {
            if mkdir(destination, 0o700) != 0, errno != EEXIST { throw ToolError.system(FlistPath.quoted(Array(destination.utf8))) }
            let descriptor = open(destination, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard descriptor >= 0 else { throw ToolError.system(FlistPath.quoted(Array(destination.utf8))) }
            return DirectoryHandle(descriptor)
        }
        let tree = ExtractTree(run: run, root: root, start: start)
        let lanes = run.isDirect ? run.threads.count : filesInFlight
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<lanes {
                group.addTask {
                    // A batch is walked, and all in it that can be done at once is done, in one hop.
                    while let jobs = try await run.threads.run({ try tree.nextFiles().map { try run.writeSmall($0) } }) {
                        for job in jobs { try await run.write(job) }
                    }
                }
            }
            do { try await group.waitForAll() } catch {
                run.stop(error)
                throw error
            }
        }
        try await run.threads.run { try tree.finishDirectories() }
    }
}
