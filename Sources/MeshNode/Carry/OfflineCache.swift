internal import BlockingThreads
internal import CarryFile
internal import ChunkModel
internal import ChunkStore
public import ControlModel
internal import Flist
public import Logging
internal import Minisign
public import NodeConfiguration

/// A cache directory that no daemon holds: for carrying it to or from a disk. While this is open no daemon can start on it.
public final class OfflineCache: Sendable {
    let store: ChunkStore
    let files: FlistFiles
    let flists = FlistTable()
    let threads = BlockingThreads(count: max(2, BlockingThreads.machineThreads))
    let pool = ChunkBufferPool(keep: CacheExporter.window)
    private let catalogue: CatalogueFile
    private let trust: FlistTrust
    private let logger: Logger

    /// Opens the directory, creating it where it is missing. Blocking.
    ///
    /// - Parameter maxBytes: quota; `nil`: as much as the device holds above the floor.
    /// - Throws: one clear line: held by a daemon, not writable, …
    public init(_ cache: Configuration.Cache, maxBytes: Int64?, trust: Configuration.Trust, logger: Logger) throws {
        store = try ChunkStore(
            ChunkStoreConfiguration(directory: cache.dir, maxBytes: maxBytes ?? .max, minFree: cache.minFree.floor), logger: logger)
        files = try FlistFiles(directory: cache.dir + "/flists")
        catalogue = try CatalogueFile(path: cache.dir + "/catalogue.db")
        self.trust = FlistTrust(trust)
        self.logger = logger
        for record in try catalogue.flists() {
            do { _ = try open(record) } catch {
                logger.warning("flist of the cache cannot be opened", metadata: ["flist": "\(record.name)", "error": "\(error)"])
            }
        }
    }

    /// Writes the index; to be called at the end. Blocking.
    public func close() { store.close() }

    /// - Parameter flists: names, digests or URLs; empty means all whose chunks are all here.
    public func export(_ names: [String]) throws(NodeError) -> any CacheExport {
        var entries: [FlistTable.Entry] = []
        for name in names {
            guard let entry = flists.find(name) ?? flists.find(url: name) else {
                throw .notFound("no flist is known as \(name) in this cache")
            }
            if !entries.contains(where: { $0.record.digest == entry.record.digest }) { entries.append(entry) }
        }
        if names.isEmpty {
            entries = flists.all.filter { entry in entry.flist.chunks.allSatisfy { store.contains($0) } }
            if entries.isEmpty { throw .notFound("no flist is complete in this cache; name those to export") }
        }
        return CacheExporter(host: self, entries)
    }

    public func beginImport() -> any CacheImport { CacheImporter(host: self) }

    private func open(_ record: FlistRecord) throws -> FlistTable.Entry? {
        guard let path = files.path(of: record.digest) else { return nil }
        let opened = try OpenFlist(digest: record.digest, path: path, fileBytes: try fileSize(path), files: files) { _ in nil }
        flists.insert(opened, record: record, now: .zero)
        return flists.entry(record.digest)
    }
}

extension OfflineCache: CarryHost {
    func admit(_ entry: FlistFiles.Entry, _ note: CarryNote) async throws -> FlistTable.Entry {
        try await threads.run { [self] in
            let isNew = flists.entry(entry.digest) == nil
            do { return try admitNow(entry, note) } catch {
                if isNew { _ = try? files.remove(entry.digest) }
                throw error
            }
        }
    }

    /// Blocking. By the rules that a daemon has, which looks at it again when it starts.
    private func admitNow(_ entry: FlistFiles.Entry, _ note: CarryNote) throws -> FlistTable.Entry {
        let name = FlistRecord.clean(note.name)
        var signature: FlistSignature?
        if let offered = try? MinisignSignature(note.signature) {
            do { signature = try trust.judge(offered, of: entry.path) } catch { throw NodeError.badRequest("\(name): \(error)") }
        }
        guard signature?.isTrusted == true || !trust.requiresSigned else {
            throw NodeError.badRequest("\(name) is not signed by one of trust.keys; trust.requireSigned refuses it")
        }
        let known = flists.entry(entry.digest)
        guard known != nil || flists.all.count < FlistTable.maxOpen else {
            throw NodeError.conflict("\(FlistTable.maxOpen) flists are known already; forget some")
        }
        var record = FlistRecord(
            digest: entry.digest, name: name, url: FlistRecord.carried(url: note.url) ?? known?.record.url, isVouched: true)
        record.isPinned = known?.record.isPinned ?? false
        record.signature = signature
        guard let opened = try open(record) else { throw NodeError.unavailable("\(name) is gone from the cache") }
        if let signature { try files.setSignature(signature.signature.fileBytes, of: entry.digest) }
        try catalogue.save(record)
        return opened
    }

    func stored(_ chunk: ChunkID) {}

    func chunk(_ id: ChunkID, of flist: FlistDigest) async -> Chunk? {
        await threads.run { [self] in try? store.copy(of: id, into: pool) }
    }
}
