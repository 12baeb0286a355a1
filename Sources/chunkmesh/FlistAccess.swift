import BlockingThreads
import ChunkModel
import ControlClient
import Flist
import FlistTools
import Glibc
import LegacyFlist
import LocalFiles
import UpstreamStores

/// An flist at hand, with the source of its chunks: the daemon where one answers, else the flist's own routes or `--store`.
struct FlistAccess {
    let flist: FlistFile
    let source: any ChunkSource
    /// A copy made for this command, removed with it.
    private let temporary: TemporaryFile?

    /// - Parameters:
    ///   - stores: URLs that chunks are read from, in place of the daemon and the routes.
    ///   - client: the daemon, if one may be asked.
    static func open(_ name: String, stores: [String], client: ControlClient?) async throws -> FlistAccess {
        let local = FlistName.localFile(name)
        if local == nil, FlistName.isPath(name) { throw ControlError.broken("\(name): no such file") }
        if stores.isEmpty, let client {
            do {
                return try await throughDaemon(name, local: local, client)
            } catch ControlError.noDaemon where local != nil || name.hasPrefix("http") {
                // Stand-alone then.
            }
        }
        let opener = try StoreOpener.forCommand(named: stores)
        var temporary: TemporaryFile?
        var path = local
        if path == nil, name.hasPrefix("http://") || name.hasPrefix("https://") {
            let file = try TemporaryFile()
            _ = try await FlistDownload(curl: CurlMulti(), opener: opener).fetch(name, to: file.path)
            (temporary, path) = (file, file.path)
        }
        guard let path else { throw ControlError.broken("\(name): no such file, and no daemon was asked for it") }
        let flist = try await open(file: path)
        return FlistAccess(flist: flist, source: try source(flist, stores, opener), temporary: temporary)
    }

    /// Directories on this machine are read directly, all else by way of the upstreams.
    private static func source(_ flist: FlistFile, _ stores: [String], _ opener: StoreOpener) throws -> any ChunkSource {
        let urls = try stores.map { $0.contains("://") ? $0 : try DirStore.url(path: $0) }
        let routes = urls.isEmpty ? flist.routes : urls.map { Route(url: $0) }
        if DirStoreSource.covers(routes) { return DirStoreSource(routes: routes) }
        return RoutedChunks(flist.routes, stores: urls, opener: opener)
    }

    /// A local file in either format; what is made of a legacy one is gone when the command ends, however it ends.
    static func open(file path: String) async throws -> FlistFile {
        do {
            return try await BlockingThreads(count: 1).run {
                try FlistFormat.open(path: path, scratch: TemporaryFile.directory) { try Interrupt.check() }
            }
        } catch {
            try Interrupt.check()
            throw error
        }
    }

    private static func throughDaemon(_ name: String, local: String?, _ client: ControlClient) async throws -> FlistAccess {
        let resource = try client.open(name)
        var temporary: TemporaryFile?
        var path = local
        if path == nil {
            let file = try TemporaryFile()
            try file.fill(from: client, resource + "/image")
            (temporary, path) = (file, file.path)
        }
        let file = path!
        let flist = try await open(file: file)
        return FlistAccess(flist: flist, source: DaemonSource(client: client, resource: resource), temporary: temporary)
    }
}

/// Chunks by way of the daemon, which has them, or gets them from peers or upstream. Verified here again.
struct DaemonSource: ChunkSource {
    /// Requests at one time.
    static let places = 8

    let client: ControlClient
    let resource: String
    let threads = BlockingThreads(count: DaemonSource.places)

    func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk? {
        try await threads.run { [client, resource] in
            let buffer: ChunkBuffer
            do {
                buffer = ChunkBuffer(copying: try client.bytes("\(resource)/chunks/\(id.hex)", maxBytes: ChunkLimits.maxStoredBytes))
            } catch ControlError.refused(404, _) {
                return nil
            }
            guard let chunk = Chunk(verifying: buffer, as: id) else {
                throw ControlError.broken("the daemon sent wrong bytes for chunk \(id.hex)")
            }
            return chunk
        }
    }
}

extension TemporaryFile {
    func fill(from client: ControlClient, _ resource: String) throws {
        let descriptor = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC)
        guard descriptor >= 0 else { throw ControlError.broken("\(path): \(String(cString: strerror(errno)))") }
        defer { close(descriptor) }
        var isFull = false
        do {
            try client.stream(resource, range: nil) { piece in
                isFull = !Terminal.write(descriptor, piece)
                return !isFull
            }
        } catch {
            throw isFull ? ControlError.broken("\(path): \(String(cString: strerror(errno)))") : error
        }
    }
}
