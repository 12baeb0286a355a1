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

    private struct Version {
        let digest: FlistDigest
        let fetchedAt: Duration
    }

    let parts: NodeParts
    let fetcher: ChunkFetcher
    let files: FlistFiles
    private let catalogue: CatalogueFile
    private let downloads: FlistDownload
    private let way: @Sendable ([Route]) -> RoutedUpstream?
    private let configuredHosts: Set<String>
    private var running: [String: Task<FlistTable.Entry, any Error>] = [:]
    private var versions: [UInt64: Version] = [:]
    private var byURL: [UInt64: Task<FlistTable.Entry, any Error>] = [:]

    init(
        parts: NodeParts, fetcher: ChunkFetcher, files: FlistFiles, catalogue: CatalogueFile, downloads: FlistDownload,
        configuredHosts: Set<String>, way: @escaping @Sendable ([Route]) -> RoutedUpstream?
    ) {
        (self.parts, self.fetcher, self.files, self.catalogue, self.downloads) = (parts, fetcher, files, catalogue, downloads)
        (self.configuredHosts, self.way) = (configuredHosts, way)
    }

    // MARK: For this node's users

    /// The flist by name, digest, URL or path; fetched where it is not known, and brought up to date where it is a URL.
    ///
    /// - Throws: `NodeError`.
    func open(_ text: String) async throws -> FlistTable.Entry {
        if let known = parts.flists.find(text) {
            parts.flists.touch(known.record.digest, now: parts.clock.now)
            return known
        }
        if text.hasPrefix("http://") || text.hasPrefix("https://") { return try await single(text) { try await self.open(url: text) } }
        if text.hasPrefix("/") { return try await single(text) { try await self.open(file: text) } }
        if let digest = FlistDigest(hex: text) { return try await open(digest) }
        if let (digest, _) = announced(name: text) { return try await open(digest) }
        throw NodeError.notFound("no flist is known as \(text); name a file, an http(s) URL, or one that chunkmesh status shows")
    }

    /// An flist for another node's prefetch.
    func openForPeers(_ digest: FlistDigest) async throws -> FlistTable.Entry {
        // A user here may have been told of the same at the same moment: then the routes are vouched for, and this node fetches.
        for task in byURL.values where parts.flists.entry(digest) == nil { _ = try? await task.value }
        return try await open(digest)
    }

    /// An flist that peers have.
    func open(_ digest: FlistDigest) async throws -> FlistTable.Entry {
        if let known = parts.flists.entry(digest) { return known }
        return try await single(digest.hex) {
            let fact = self.parts.gossip.nodes(knowing: digest).first?.fact
            let entry = try await self.pull(digest)
            return try await self.admit(
                entry, name: fact?.name ?? String(digest.hex.prefix(12)), url: nil, validators: nil, isVouched: false)
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
        let entry: FlistFiles.Entry
        do {
            entry = try await parts.threads.run { [files] in try files.add(copying: path) }
        } catch {
            throw NodeError.badRequest("\(error)")
        }
        return try await admit(entry, name: FlistRecord.name(of: path), url: nil, validators: nil, isVouched: true)
    }

    // MARK: URLs

    private static func key(ofURL url: String) -> UInt64 { Blake2b.hash256(Array(url.utf8)).prefix64 }

    private func open(url: String) async throws -> FlistTable.Entry {
        let key = Self.key(ofURL: url)
        let known = parts.flists.find(url: url)
        if let version = versions[key], parts.clock.now - version.fetchedAt < Self.freshness, let entry = parts.flists.entry(version.digest)
        {
            return entry
        }
        await settle()
        let site = parts.gossip.siteMembers
        if let owner = Rendezvous.owner(ofKey: key, among: site.map(\.id) + [parts.identity.id]), owner != parts.identity.id,
            let member = site.first(where: { $0.id == owner }), let entry = await openThroughOwner(member, url: url, key: key)
        {
            return entry
        }
        return try await download(url, key: key, known: known)
    }

    /// Waits until this node has met others, or it is clear that there are none.
    private func settle() async {
        while parts.clock.now < Self.settleTime, parts.gossip.liveCount == 1 { try? await Task.sleep(for: .milliseconds(20)) }
    }

    /// Asks the node that fetches this URL for the site. `nil`: it knows nothing, or what it has may not be used here.
    private func openThroughOwner(_ owner: Member, url: String, key: UInt64) async -> FlistTable.Entry? {
        let reply = await call(owner, kind: MessageKind.flistVersion.rawValue, payload: key.bytes, deadline: Self.ownerDeadline)
        guard let reply, reply.count == 32, let value = Bytes32(reply) else { return nil }
        let digest = FlistDigest(value)
        if let known = parts.flists.entry(digest), known.record.isVouched {
            note(digest, as: key)
            return known
        }
        do {
            let entry = try await pull(digest, first: owner.id)
            // The places that it names are opened only when they are where the user sent us anyway, or the operator.
            let routes = try await parts.threads.run { [files] in
                try OpenFlist.file(digest, path: entry.path, files: files).routes
            }
            guard routes.allSatisfy({ isNamedHere($0.url, beside: url) }) else { return nil }
            let admitted = try await admit(entry, name: FlistRecord.name(of: url), url: url, validators: nil, isVouched: true)
            note(digest, as: key)
            return admitted
        } catch {
            parts.logger.info("flist could not be had from its owner; fetching it here", metadata: ["url": "\(url)", "error": "\(error)"])
            return nil
        }
    }

    private func isNamedHere(_ route: String, beside url: String) -> Bool {
        guard let host = URLText.host(route) else { return false }
        return host == URLText.host(url) || configuredHosts.contains(host)
    }

    private func download(_ url: String, key: UInt64, known: FlistTable.Entry?) async throws -> FlistTable.Entry {
        let temporary = files.directory + "/download-\(String(key, radix: 16))"
        let validators = known.map { FlistDownload.Validators(etag: $0.record.etag, lastModified: $0.record.lastModified) }
        do {
            switch try await downloads.fetch(url, to: temporary, known: validators) {
            case .notModified:
                guard let known else { throw NodeError.unavailable("\(url): the server says that nothing changed, but nothing was known") }
                note(known.record.digest, as: key)
                return known
            case .downloaded(let path, let digest, let bytes, let validators):
                defer { unlink(path) }
                let entry = try await parts.threads.run { [files] in try files.add(copying: path, expecting: digest) }
                parts.logger.info("flist fetched", metadata: ["url": "\(url)", "bytes": "\(bytes)", "digest": "\(digest)"])
                let admitted = try await admit(entry, name: FlistRecord.name(of: url), url: url, validators: validators, isVouched: true)
                note(digest, as: key)
                return admitted
            }
        } catch let error as UpstreamError {
            if case .missing = error { throw NodeError.notFound("\(url): not found on the server") }
            // Without the hub, what the site has goes on working.
            if let known {
                parts.logger.warning("flist could not be checked for a newer version", metadata: ["url": "\(url)", "error": "\(error)"])
                return known
            }
            if let (digest, _) = announced(name: FlistRecord.name(of: url)), let entry = try? await open(digest) {
                parts.logger.warning(
                    "hub out of reach; using the site's flist of that name", metadata: ["url": "\(url)", "digest": "\(digest)"])
                return entry
            }
            throw NodeError.unavailable("\(error)")
        }
    }

    /// Which version of a URL this node has, or is fetching; waits a little for a user to ask for it here too.
    func version(ofURL key: UInt64) async -> FlistDigest? {
        let end = parts.clock.now + Self.herdGrace
        while true {
            if let version = versions[key], parts.clock.now - version.fetchedAt < Self.freshness { return version.digest }
            if let task = byURL[key] { return try? await task.value.record.digest }
            guard parts.clock.now < end else { return nil }
            try? await Task.sleep(for: .milliseconds(20))
        }
    }

    /// Older ones say nothing any more.
    private func note(_ digest: FlistDigest, as key: UInt64) {
        let now = parts.clock.now
        if versions.count >= Self.maxVersions { versions = versions.filter { now - $0.value.fetchedAt < Self.freshness } }
        if versions.count < Self.maxVersions { versions[key] = Version(digest: digest, fetchedAt: now) }
    }

    // MARK: Admission

    /// Opens the file, remembers it and tells the mesh.
    func admit(
        _ entry: FlistFiles.Entry, name: String, url: String?, validators: FlistDownload.Validators?, isVouched: Bool
    ) async throws -> FlistTable.Entry {
        var record = FlistRecord(
            digest: entry.digest, name: name, url: url, etag: validators?.etag, lastModified: validators?.lastModified, isVouched: isVouched
        )
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
            opened = try await parts.threads.run { [files, way, configuredHosts] in
                try OpenFlist(digest: record.digest, path: path, fileBytes: bytes, files: files) { routes in
                    let usable = record.isVouched ? routes : routes.filter { URLText.host($0.url).map(configuredHosts.contains) ?? false }
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
            name: record.name)
        parts.gossip.change { machine, _ in
            machine.setFact(MeshFacts.flistKey(record.digest), fact.encoded)
            if !machine.publishFlist(record.digest, chunkCount: opened.chunks.count) {
                parts.logger.warning(
                    "too many chunks to announce to the mesh", metadata: ["flist": "\(record.name)", "chunks": "\(opened.chunks.count)"])
            }
        }
        // Published first, so that what arrives from now on is told by its arrival.
        let held = await parts.threads.run { [parts] in parts.store.held(among: opened.chunks) }
        parts.gossip.change { machine, _ in machine.setHave(record.digest, held.indices.lazy.filter { held[$0] }) }
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

    /// Opens what was known before the restart.
    func restore() async {
        let records = (try? await parts.threads.run { [catalogue] in try catalogue.flists() }) ?? []
        for record in records {
            guard let path = files.path(of: record.digest) else { continue }
            do {
                let bytes = try await parts.threads.run { try fileSize(path) }
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
