internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import FetchPlanner
internal import Flist
internal import Glibc
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import Minisign
internal import PeerExchange
internal import PeerProtocol
internal import UpstreamStores

/// Makes flists known: from a file, from a URL (once for the site, with its ETag), or from the peers that have them.
actor FlistOpener {
    /// A version fetched less than this ago is taken as current without asking the hub.
    static let freshness: Duration = .seconds(60)
    /// How long the URL's owner waits to be told of it too, before it says that it knows nothing.
    static let herdGrace: Duration = .seconds(1)
    /// Bytes of flist files that are kept for other nodes' prefetches; what would go beyond is not fetched.
    static let maxForeignBytes: Int64 = 4 << 30
    /// How long the others wait for the owner, which may be downloading a large flist.
    static let ownerDeadline: Duration = .seconds(120)
    /// URLs whose version is remembered; with more within `freshness` the hub is asked again.
    static let maxVersions = 4096
    /// Pieces of an flist asked of one peer at a time.
    static let piecesUnderWay = 4
    /// A node that just started waits this long for others to show up, before it goes to upstream.
    static let settleTime: Duration = .seconds(1)

    struct Version {
        let digest: FlistDigest
        let fetchedAt: Duration
    }

    let parts: NodeParts
    let fetcher: ChunkFetcher
    let files: FlistFiles
    private let catalogue: CatalogueFile
    let downloads: FlistDownload
    let signatures: SignatureDownload
    private let way: @Sendable ([Route]) -> RoutedUpstream?
    let configuredHosts: Set<String>
    private var isRestored = false
    private var waitingForRestore: [CheckedContinuation<Void, Never>] = []
    private var running: [String: Task<FlistTable.Entry, any Error>] = [:]
    var versions: [UInt64: Version] = [:]
    var byURL: [UInt64: Task<FlistTable.Entry, any Error>] = [:]
    /// When the peers were last asked for the signature of an flist that is open without one.
    var signaturesAsked: [FlistDigest: Duration] = [:]

    init(
        parts: NodeParts, fetcher: ChunkFetcher, files: FlistFiles, catalogue: CatalogueFile, downloads: FlistDownload,
        signatures: SignatureDownload, configuredHosts: Set<String>, way: @escaping @Sendable ([Route]) -> RoutedUpstream?
    ) {
        (self.parts, self.fetcher, self.files, self.catalogue, self.downloads) = (parts, fetcher, files, catalogue, downloads)
        (self.signatures, self.configuredHosts, self.way) = (signatures, configuredHosts, way)
    }

    // MARK: For this node's users

    /// The flist by name, digest, URL or path; fetched where it is not known, and brought up to date where it is a URL.
    ///
    /// - Throws: `NodeError`.
    func open(_ text: String) async throws -> FlistTable.Entry {
        if parts.flists.find(text) == nil { await restored() }
        if let known = parts.flists.find(text) {
            parts.flists.touch(known.record.digest, now: parts.clock.now)
            return await upgraded(known)
        }
        if text.hasPrefix("http://") || text.hasPrefix("https://") { return try await single(text) { try await self.open(url: text) } }
        if text.hasPrefix("/") { return try await single(text) { try await self.open(file: text) } }
        if let digest = FlistDigest(hex: text) { return try await open(digest) }
        if let (digest, _) = announced(name: text) { return try await open(digest) }
        if let digest = await digest(knownToSitesBy: text) { return try await open(digest, named: text) }
        throw NodeError.notFound("no flist is known as \(text); name a file, an http(s) URL, or one that chunkmesh status shows")
    }

    /// An flist for another node's prefetch.
    func openForPeers(_ digest: FlistDigest) async throws -> FlistTable.Entry {
        // A user here may have been told of the same at the same moment: then the routes are vouched for, and this node fetches.
        for task in byURL.values where parts.flists.entry(digest) == nil { _ = try? await task.value }
        return try await open(digest)
    }

    /// An flist that peers have, or another site.
    ///
    /// - Parameter named: what it is called when nobody at this site knows it.
    func open(_ digest: FlistDigest, named: String? = nil) async throws -> FlistTable.Entry {
        if parts.flists.entry(digest) == nil { await restored() }
        if let known = parts.flists.entry(digest) { return await upgraded(known) }
        return try await single(digest.hex) {
            let fact = self.parts.gossip.nodes(knowing: digest).first?.fact
            let name = fact?.name ?? named ?? String(digest.hex.prefix(12))
            let others = await self.signatures(of: digest)
            try await self.checkBeforePull(digest, name: name, others)
            let entry = try await self.pull(digest)
            let signature = try await self.settled(entry, name: name, others: others)
            return try await self.admit(entry, name: name, url: nil, validators: nil, isVouched: false, signature: signature)
        }
    }

    /// Several who ask for the same get the same.
    private func single(_ key: String, _ body: @escaping @Sendable () async throws -> FlistTable.Entry) async throws -> FlistTable.Entry {
        if let task = running[key] { return try await task.value }
        let task = Task {
            parts.flists.noteOpening(true)
            defer { parts.flists.noteOpening(false) }
            return try await body()
        }
        running[key] = task
        let urlKey = key.contains("://") ? Self.key(ofURL: key) : nil
        if let urlKey { byURL[urlKey] = task }
        defer {
            running[key] = nil
            if let urlKey { byURL[urlKey] = nil }
        }
        return try await task.value
    }

    private func open(file path: String) async throws -> FlistTable.Entry {
        let offered = try await signature(besideFile: path)
        let entry: FlistFiles.Entry
        do {
            entry = try await parts.threads.run { [files] in try files.add(copying: path) }
        } catch {
            throw NodeError.badRequest("\(error)")
        }
        let name = FlistRecord.name(of: path)
        let signature = try await settled(entry, name: name, offered: offered)
        return try await admit(entry, name: name, url: nil, validators: nil, isVouched: true, signature: signature)
    }

    // MARK: Admission

    /// Opens the file, remembers it and tells the mesh.
    func admit(
        _ entry: FlistFiles.Entry, name: String, url: String?, validators: FlistDownload.Validators?, isVouched: Bool,
        signature: FlistSignature?
    ) async throws -> FlistTable.Entry {
        var record = FlistRecord(
            digest: entry.digest, name: name, url: url, etag: validators?.etag, lastModified: validators?.lastModified,
            isVouched: isVouched, signature: signature)
        if let known = parts.flists.entry(entry.digest) {
            record.isPinned = known.record.isPinned
            record.isVouched = record.isVouched || known.record.isVouched
            if !isVouched { (record.name, record.url) = (known.record.name, known.record.url) }
        }
        return try await load(record, path: entry.path, bytes: entry.bytes, saves: true)
    }

    /// - Throws: `NodeError.badRequest` when the file is no flist that can be used; it is removed then.
    func load(_ record: FlistRecord, path: String, bytes: Int64, saves: Bool) async throws -> FlistTable.Entry {
        let opened: OpenFlist
        do {
            // A reload may have asked for signatures since this one was looked at.
            guard record.signature?.isTrusted == true || !parts.trust.requiresSigned else {
                throw NodeError.badRequest("not signed by one of trust.keys; trust.requireSigned refuses it")
            }
            opened = try await parts.threads.run { [files, way, configuredHosts] in
                try OpenFlist(digest: record.digest, path: path, fileBytes: bytes, files: files) { routes in
                    let usable =
                        record.mayOpenRoutes ? routes : routes.filter { StoreOpener.origin($0.url).map(configuredHosts.contains) ?? false }
                    return way(usable)
                }
            }
        } catch {
            if saves, parts.flists.entry(record.digest) == nil {
                _ = try? await parts.threads.run { [files] in try files.remove(record.digest) }
            }
            throw NodeError.badRequest("\(record.name): \(error)")
        }
        let isNew = parts.flists.entry(record.digest) == nil
        if isNew, let surplus = parts.flists.surplus(isForeign: !record.isVouched) { await close(surplus) }
        // The way first: a node that knows the flist and no way to its chunks declines what peers ask it for.
        parts.upstream.set(opened.upstream, for: record.digest)
        parts.flists.insert(opened, record: record, now: parts.clock.now)
        let fact = FlistFact(
            fetches: opened.upstream != nil, fileBytes: UInt64(clamping: bytes), chunkCount: UInt32(clamping: opened.chunks.count),
            name: record.name, isSigned: record.signature != nil)
        parts.gossip.change { machine, _ in
            machine.setFact(MeshFacts.flistKey(record.digest), fact.encoded)
            if !machine.publishFlist(record.digest, chunkCount: opened.chunks.count) {
                parts.logger.warning(
                    "too many chunks to announce to the mesh", metadata: ["flist": "\(record.name)", "chunks": "\(opened.chunks.count)"])
            }
        }
        // Published first, so that what arrives from now on is told by its arrival.
        let held = await parts.threads.run { [parts] in parts.store.held(among: opened.chunks) }
        if parts.mode != .fetch {
            parts.gossip.change { machine, _ in machine.setHave(record.digest, held.indices.lazy.filter { held[$0] }) }
        }
        if saves { try? await parts.threads.run { [catalogue] in try catalogue.save(record) } }
        fetcher.flistOpened(record.digest)
        guard let entry = parts.flists.entry(record.digest) else {
            throw NodeError.conflict("\(record.name) was forgotten while it was being opened")
        }
        return entry
    }

    /// Forgets the flist; its chunks stay in the cache until they are evicted.
    func close(_ digest: FlistDigest) async {
        _ = parts.flists.remove(digest)
        parts.upstream.set(nil, for: digest)
        versions = versions.filter { $0.value.digest != digest }
        signaturesAsked[digest] = nil
        parts.gossip.change { machine, _ in
            machine.withdrawFlist(digest)
            machine.removeFact(MeshFacts.flistKey(digest))
            machine.removeFact(MeshFacts.jobKey(digest))
        }
        _ = try? await parts.threads.run { [parts, catalogue, files] in
            try catalogue.remove(digest)
            _ = try parts.store.unpin(owner: digest)
            _ = try files.remove(digest)
        }
    }

    /// Waits until what was known before the restart is known again. A reader who outlived the daemon may ask for it before: taken for
    /// something new, it would lose what the catalogue says of it, such as who vouches for its routes.
    private func restored() async {
        guard !isRestored else { return }
        await withCheckedContinuation { waitingForRestore.append($0) }
    }

    /// Opens what was known before the restart.
    func restore() async {
        defer {
            isRestored = true
            for waiter in waitingForRestore { waiter.resume() }
            waitingForRestore = []
        }
        let records = (try? await parts.threads.run { [catalogue] in try catalogue.flists() }) ?? []
        for var record in records {
            guard let path = files.path(of: record.digest) else { continue }
            do {
                let bytes = try await parts.threads.run { try fileSize(path) }
                do {
                    // The hub is asked only where the flist would be lost otherwise.
                    record.signature = try await settled(
                        FlistFiles.Entry(digest: record.digest, bytes: bytes, path: path), name: record.name,
                        url: parts.trust.requiresSigned ? record.url : nil)
                } catch {
                    await close(record.digest)
                    throw error
                }
                _ = try await load(record, path: path, bytes: bytes, saves: false)
            } catch {
                parts.logger.warning(
                    "flist of an earlier run cannot be opened", metadata: ["flist": "\(record.name)", "error": "\(error)"])
            }
        }
    }
}

/// Bytes of a file.
func fileSize(_ path: String) throws -> Int64 {
    var status = stat()
    guard stat(path, &status) == 0 else { throw NodeError.unavailable("\(path): \(String(cString: strerror(errno)))") }
    return Int64(status.st_size)
}
