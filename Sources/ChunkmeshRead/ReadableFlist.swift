internal import BlockingThreads
public import Flist
internal import ReadClient

/// An flist that is open for reading: walk it, look at entries, read files. Only what is looked at travels.
///
///     let flist = try await ReadableFlist.open("image.fl")
///     for try await item in flist.walk() { print(item.path) }
///     let file = try await flist.file("/etc/os-release")
///     for try await piece in file.stream() { … }
///
/// Usable from any task; nothing here blocks the caller's thread. It is closed when the last reference to it and its files goes.
public final class ReadableFlist: Sendable {
    let flist: FlistFile
    let backend: Backend
    let threads: BlockingThreads

    private init(flist: FlistFile, backend: Backend, threads: BlockingThreads) {
        (self.flist, self.backend, self.threads) = (flist, backend, threads)
    }

    /// Opens an flist of either format.
    ///
    /// - Parameters:
    ///   - name: a path or an http(s) URL; through a daemon also the name or the digest of an flist that it knows.
    ///   - access: the daemon, or without one.
    /// - Throws: `FlistReadError`.
    public static func open(
        _ name: String, through access: FlistAccess = .automatic, options: ReadOptions = ReadOptions()
    ) async throws(FlistReadError) -> ReadableFlist {
        let threads = BlockingThreads(count: max(2, BlockingThreads.machineThreads))
        do {
            let (flist, backend): (FlistFile, Backend)
            switch access {
            case .daemon(let socket):
                (flist, backend) = try await Backend.throughDaemon(
                    await absolute(name, threads), socket: socket ?? ReadOptions.defaultSocket, options)
            case .standAlone(let stores): (flist, backend) = try await Backend.standAlone(name, stores: stores, options, threads)
            case .automatic:
                if ReadClient.answers(ReadClient.socket(ofAPI: ReadOptions.defaultSocket)) {
                    (flist, backend) = try await Backend.throughDaemon(
                        await absolute(name, threads), socket: ReadOptions.defaultSocket, options)
                } else {
                    (flist, backend) = try await Backend.standAlone(name, stores: [], options, threads)
                }
            }
            return ReadableFlist(flist: flist, backend: backend, threads: threads)
        } catch {
            throw FlistReadError(error)
        }
    }

    /// The daemon stands in another directory: a file that is here is named by its whole path.
    private static func absolute(_ name: String, _ threads: BlockingThreads) async -> String {
        guard !name.hasPrefix("/"), !name.contains("://") else { return name }
        return await threads.run { Backend.wholePath(of: name) }
    }

    /// The flist's metadata, for what this type does not offer. Its calls block.
    public var metadata: FlistFile { flist }

    // MARK: Looking

    /// The entry at `path`.
    ///
    /// - Parameters:
    ///   - path: from the flist's root, bytes as they stand in it.
    ///   - followLinks: symbolic links at its end are followed inside the flist, as those on the way always are.
    public func stat(_ path: [UInt8], followLinks: Bool = true) async throws(FlistReadError) -> FlistEntry {
        try await looked { [flist] in try flist.resolve(path, followLinks: followLinks) }
    }

    public func stat(_ path: String, followLinks: Bool = true) async throws(FlistReadError) -> FlistEntry {
        try await stat(Array(path.utf8), followLinks: followLinks)
    }

    /// The entries of the directory at `path`, in the order of the flist. All of them are in memory: `walk` does without.
    public func list(_ path: String = "/") async throws(FlistReadError) -> [FlistEntry] { try await list(Array(path.utf8)) }

    public func list(_ path: [UInt8]) async throws(FlistReadError) -> [FlistEntry] {
        let directory = try await stat(path)
        guard directory.isDirectory else { throw FlistReadError(.badRequest, "\(FlistPath.quoted(path)) is no directory") }
        return try await looked { [flist] in
            var entries: [FlistEntry] = []
            var after: Int64?
            repeat {
                let page = try flist.children(of: directory.ino, after: after)
                entries += page.entries
                after = page.next
            } while after != nil
            return entries
        }
    }

    /// The directory at `path` and all below it, parents first.
    public func walk(_ path: [UInt8] = [UInt8(ascii: "/")]) -> FlistWalk { FlistWalk(flist: self, start: path) }

    func looked<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws(FlistReadError) -> R {
        do {
            return try await threads.run(body)
        } catch {
            throw FlistReadError(error)
        }
    }

    // MARK: Reading

    /// Opens a regular file, symbolic links followed.
    public func file(_ path: String) async throws(FlistReadError) -> ReadableFile { try await file(Array(path.utf8)) }

    public func file(_ path: [UInt8]) async throws(FlistReadError) -> ReadableFile { try await file(try await stat(path)) }

    /// Opens the regular file that the entry is.
    public func file(_ entry: FlistEntry) async throws(FlistReadError) -> ReadableFile {
        guard entry.isFile else { throw FlistReadError(.badRequest, "\(FlistPath.quoted(entry.name)) is no regular file") }
        switch backend {
        case .daemon(let remote): return ReadableFile(entry: entry, flist: self, content: .remote(remote))
        case .standAlone(let loader):
            let blocks = try await looked { [flist] in try flist.blocks(of: entry) }
            return ReadableFile(entry: entry, flist: self, content: .local(LocalContent(size: entry.size, blocks: blocks, loader: loader)))
        }
    }

    /// Copies bytes of the file at `path` into `target`: for a single look; keep a `ReadableFile` for more.
    ///
    /// - Returns: bytes copied: all of `target`, fewer at the end of the file only.
    public func read(_ path: String, at offset: UInt64, into target: UnsafeMutableRawBufferPointer) async throws(FlistReadError) -> Int {
        try await file(path).read(at: offset, into: target)
    }
}
