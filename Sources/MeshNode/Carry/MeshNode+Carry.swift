internal import BlockingThreads
internal import CarryFile
internal import ChunkModel
internal import ChunkStore
public import ControlModel
internal import Gossip
internal import GossipTransport
internal import Minisign

/// Carrying the cache of a running node.
extension MeshNode {
    public func exportCache(_ flists: [String]) async throws(NodeError) -> any CacheExport {
        var entries: [FlistTable.Entry] = []
        for name in flists {
            let entry = try await known(name)
            if !entries.contains(where: { $0.record.digest == entry.record.digest }) { entries.append(entry) }
        }
        if flists.isEmpty {
            entries = await parts.threads.run { [parts] in parts.flists.all.filter { parts.isComplete($0) } }
            if entries.isEmpty { throw .notFound("no flist is complete here or at the site; name those to export") }
        }
        let host = NodeCarryHost(parts: parts, fetcher: fetcher, files: files, opener: opener)
        return await parts.threads.run { [entries] in CacheExporter(host: host, entries) }
    }

    public func importCache() async throws(NodeError) -> any CacheImport {
        CacheImporter(host: NodeCarryHost(parts: parts, fetcher: fetcher, files: files, opener: opener))
    }
}

extension NodeParts {
    /// Whether every chunk is here, or on some live node of the site. Blocking.
    func isComplete(_ entry: FlistTable.Entry) -> Bool {
        if entry.flist.chunks.allSatisfy({ store.contains($0) }) { return true }
        let copies = gossip.read { machine, _ in machine.copies(of: entry.record.digest) } ?? []
        return copies.count == entry.flist.chunks.count && copies.allSatisfy { $0 > 0 }
    }
}

struct NodeCarryHost: CarryHost {
    /// What is not here by then is left out of the file, and counted.
    static let fetchDeadline: Duration = .seconds(60)

    let parts: NodeParts
    let fetcher: ChunkFetcher
    let files: FlistFiles
    let opener: FlistOpener

    var store: ChunkStore { parts.store }
    var flists: FlistTable { parts.flists }
    var threads: BlockingThreads { parts.threads }
    var pool: ChunkBufferPool { parts.pool }

    func admit(_ entry: FlistFiles.Entry, _ note: CarryNote) async throws -> FlistTable.Entry {
        try await opener.admit(carried: entry, note)
    }

    func stored(_ chunk: ChunkID) { parts.announceHolding(of: chunk) }

    /// From the site or upstream where it is not here.
    func chunk(_ id: ChunkID, of flist: FlistDigest) async -> Chunk? {
        if let chunk = await threads.run({ [parts] in try? parts.store.copy(of: id, into: parts.pool) }) { return chunk }
        // While upstream does not answer, only what the site holds can be had.
        guard (parts.upstream.hasWay(for: flist) && parts.upstream.trouble(of: flist) == nil) || !fetcher.view.holders(of: id).isEmpty
        else { return nil }
        return await withTaskGroup(of: Chunk?.self) { [fetcher] group in
            group.addTask { try? await fetcher.fetch(id, flist: flist, priority: .prefetch).chunk }
            group.addTask {
                try? await Task.sleep(for: Self.fetchDeadline)
                return nil
            }
            defer { group.cancelAll() }
            return await group.next() ?? nil
        }
    }
}

extension FlistOpener {
    /// An flist of a carried file: looked at as one that a user of this node named.
    func admit(carried entry: FlistFiles.Entry, _ note: CarryNote) async throws -> FlistTable.Entry {
        let known = parts.flists.entry(entry.digest)
        guard known != nil || parts.flists.all.count < FlistTable.maxOpen else {
            _ = try? await parts.threads.run { [files] in try files.remove(entry.digest) }
            throw NodeError.conflict("\(FlistTable.maxOpen) flists are known already; forget some")
        }
        let name = FlistRecord.clean(note.name)
        let offered = note.signature.isEmpty ? nil : try? MinisignSignature(note.signature)
        let signature = try await settled(entry, name: name, offered: offered)
        return try await admit(
            entry, name: name, url: FlistRecord.carried(url: note.url) ?? known?.record.url, validators: nil, isVouched: true,
            signature: signature)
    }
}

extension FlistRecord {
    /// A URL from a carried file, where it is one.
    static func carried(url: String?) -> String? {
        guard let url, url.hasPrefix("http://") || url.hasPrefix("https://"),
            !url.unicodeScalars.contains(where: { $0.value <= 32 || $0.value == 127 })
        else { return nil }
        return url
    }
}
