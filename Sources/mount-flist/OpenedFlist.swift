import BlockingThreads
import ChunkModel
import Flist
import FlistMount
import FlistTools
import Glibc
import LegacyFlist
import LocalFiles
import ReadAPI
import ReadClient
import UpstreamStores

/// An flist at hand, and where its content comes from.
struct OpenedFlist {
    let flist: FlistFile
    /// What tells it from other flists.
    let identity: String
    let content: any MountContent

    /// Bytes of decoded blocks that are kept.
    private static let decodedBytes = 32 << 20

    /// By way of the daemon, unless stores are named. Where none runs and none was asked for, the flist's own routes serve.
    static func open(_ name: String, _ options: MountOptions, _ log: HelperLog) throws(MountError) -> OpenedFlist {
        guard options.stores.isEmpty else { return try alone(name, options) }
        let asked = options.api ?? getenv("CHUNKMESH_API").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
        let socket = try DaemonSocket.path(asked)
        // A bare name is one that the daemon knows: it may yet come up.
        if asked == nil, name.contains("/") || access(name, R_OK) == 0, !DaemonSocket.answers(socket) {
            let alone = try alone(name, options)
            log.line("no daemon answers at \(socket): content comes from the flist's own routes")
            return alone
        }
        return try throughDaemon(name, socket, options)
    }

    private static func throughDaemon(_ name: String, _ socket: String, _ options: MountOptions) throws(MountError) -> OpenedFlist {
        do throws(ReadClientError) {
            let client = try ReadClient(socket: socket, deadline: .seconds(options.timeout))
            let flist = try client.openNow(DaemonSocket.name(name))
            return OpenedFlist(flist: flist.file, identity: flist.digest.hex, content: DaemonContent(flist))
        } catch {
            throw MountError(.failed, error.description)
        }
    }

    /// Without a daemon: from the stores that are named, else from the flist's own routes.
    private static func alone(_ name: String, _ options: MountOptions) throws(MountError) -> OpenedFlist {
        if options.prefetch { throw ReaderContent.noPrefetch }
        do {
            return try Waiting.result {
                let file = getenv("CHUNKMESH_UPSTREAM_CREDENTIALS_FILE").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
                let curl = CurlMulti()
                let opener = StoreOpener(
                    curl: curl, credentials: try UpstreamCredentials.load(file: file), named: options.stores, limits: UpstreamLimits())
                let local = try await LocalFlist.file(name, curl: curl, opener: opener)
                defer { withExtendedLifetime(local) {} }
                let flist = try FlistFormat.open(path: local.path, scratch: TemporaryFile.directory)
                let source = try source(flist, options.stores, opener)
                let threads = BlockingThreads()
                let reader = FlistReader(
                    flist: flist, source: source, threads: threads, cache: DecodedBlockCache(maxBytes: decodedBytes),
                    pool: ChunkBufferPool())
                return OpenedFlist(
                    flist: flist, identity: try identity(local.path), content: ReaderContent(reader: reader, threads: threads))
            }
        } catch let error as MountError {
            throw error
        } catch {
            throw MountError(.failed, "\(error)")
        }
    }

    /// The digest of the flist's file.
    private static func identity(_ path: String) throws -> String {
        let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw MountError(.failed, "\(path): \(String(cString: strerror(errno)))") }
        defer { close(file) }
        let hash = Blake2bStream()
        var piece = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = read(file, &piece, piece.count)
            guard count > 0 else { return hash.finish().hex }
            piece.withUnsafeBytes { hash.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        }
    }

    private static func source(_ flist: FlistFile, _ stores: [String], _ opener: StoreOpener) throws -> any ChunkSource {
        let urls = try stores.map { $0.contains("://") ? $0 : try DirStore.url(path: $0) }
        let routes = urls.isEmpty ? flist.routes : urls.map { Route(url: $0) }
        if DirStoreSource.covers(routes) { return DirStoreSource(routes: routes) }
        return RoutedChunks(flist.routes, stores: urls, opener: opener)
    }
}

/// The flist's file: the one that is named, or what was fetched from a URL. Once it is open it needs no name.
struct LocalFlist {
    let path: String
    private let temporary: TemporaryFile?

    static func file(_ name: String, curl: CurlMulti, opener: StoreOpener) async throws -> LocalFlist {
        guard name.hasPrefix("http://") || name.hasPrefix("https://") else {
            guard access(name, R_OK) == 0 else {
                throw MountError(.failed, "\(FlistPath.quoted(Array(name.utf8))): \(String(cString: strerror(errno)))")
            }
            return LocalFlist(path: name, temporary: nil)
        }
        let file: TemporaryFile
        do throws(TemporaryFileError) { file = try TemporaryFile() } catch { throw MountError(.system, error.description) }
        _ = try await FlistDownload(curl: curl, opener: opener).fetch(name, to: file.path)
        return LocalFlist(path: file.path, temporary: file)
    }
}
