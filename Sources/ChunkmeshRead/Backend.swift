internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import Flist
internal import Glibc
internal import LegacyFlist
internal import LocalFiles
internal import Logging
internal import ReadClient
internal import UpstreamStores

/// Where content is read from.
enum Backend: Sendable {
    case daemon(RemoteFlist)
    case standAlone(BlockLoader)

    /// Opens the flist through the daemon at this `api.socket`.
    static func throughDaemon(_ name: String, socket: String, _ options: ReadOptions) async throws -> (FlistFile, Backend) {
        let client = try ReadClient(socket: ReadClient.socket(ofAPI: socket), deadline: options.deadline)
        let remote = try await client.open(name)
        return (remote.file, .daemon(remote))
    }

    /// Opens the flist at a path or URL without a daemon.
    static func standAlone(_ name: String, stores: [String], _ options: ReadOptions, _ threads: BlockingThreads) async throws -> (
        FlistFile, Backend
    ) {
        let urls = stores.map { $0.contains("://") ? $0 : directoryURL($0) }
        let credentials = try await threads.run { try UpstreamCredentials.load(file: options.credentialsFile) }
        let opener = StoreOpener(curl: CurlMulti(), credentials: credentials, named: urls)
        var path = name
        var temporary: TemporaryFile?
        if name.hasPrefix("http://") || name.hasPrefix("https://") {
            let file: TemporaryFile
            do throws(TemporaryFileError) { file = try TemporaryFile() } catch { throw FlistReadError(.system, error.description) }
            _ = try await FlistDownload(curl: CurlMulti(), opener: opener).fetch(name, to: file.path)
            (temporary, path) = (file, file.path)
        }
        let flist = try await threads.run { [path] in try FlistFormat.open(path: path, scratch: TemporaryFile.directory) }
        withExtendedLifetime(temporary) {}
        let upstream = RoutedChunks(flist.routes, stores: urls, opener: opener)
        let cache = try await threads.run { try options.cacheDirectory.map { try Self.cache($0, options) } }
        let source = StandAloneSource(upstream: upstream, cache: cache, threads: threads)
        return (flist, .standAlone(BlockLoader(source: source, threads: threads, memory: options.memory)))
    }

    /// The whole path of a regular file that is here; any other name as it is. Blocking.
    static func wholePath(of name: String) -> String {
        var status = stat()
        guard stat(name, &status) == 0, status.st_mode & S_IFMT == S_IFREG, let path = realpath(name, nil) else { return name }
        defer { free(path) }
        return String(cString: path)
    }

    private static func directoryURL(_ path: String) -> String {
        let absolute =
            path.hasPrefix("/")
            ? path
            : (getcwd(nil, 0).map { cwd in
                defer { free(cwd) }; return String(cString: cwd)
            } ?? "") + "/" + path
        return "dir://" + absolute
    }

    /// Blocking.
    private static func cache(_ directory: String, _ options: ReadOptions) throws -> OpenCache {
        var logger = Logger(label: "chunkmesh")
        logger.logLevel = .warning
        do {
            return OpenCache(
                store: try ChunkStore(ChunkStoreConfiguration(directory: directory, maxBytes: options.cacheBytes), logger: logger))
        } catch {
            throw FlistReadError(.system, "the cache directory cannot be used: \(error)")
        }
    }
}

/// A cache of chunks that is closed in order with its last reference.
final class OpenCache: Sendable {
    let store: ChunkStore
    init(store: ChunkStore) { self.store = store }
    deinit {
        // Waits for the disk: not on whichever thread let go of it.
        let store = store
        _ = BlockingThreads.startThread { store.close() }
    }
}

/// Chunks from the cache directory, or from stores and then into it.
struct StandAloneSource: ChunkSource {
    let upstream: RoutedChunks
    let cache: OpenCache?
    let threads: BlockingThreads
    private let pool = ChunkBufferPool()

    init(upstream: RoutedChunks, cache: OpenCache?, threads: BlockingThreads) {
        (self.upstream, self.cache, self.threads) = (upstream, cache, threads)
    }

    func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk? {
        if let cache, cache.store.contains(id), let chunk = try await threads.run({ [pool] in try cache.store.read(id, into: pool) }) {
            return chunk
        }
        guard let chunk = try await upstream.chunk(id, priority: priority) else { return nil }
        if let cache { await threads.run { _ = cache.store.insert(chunk) } }
        return chunk
    }
}
