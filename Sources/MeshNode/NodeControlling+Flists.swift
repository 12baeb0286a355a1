internal import BlockingThreads
public import ChunkModel
internal import ChunkStore
public import ControlModel
internal import FetchPlanner
internal import Flist
internal import Gossip
internal import GossipTransport
internal import PeerExchange
internal import PeerProtocol
internal import UpstreamStores

/// The node as its API sees it: flists, files, prefetches, the cache.
extension MeshNode {
    /// Entries in one answer of a listing.
    static let listingPage = 2048
    /// Chunks verified at one time.
    static let verifyWindow = 16
    /// Problems that one verification names.
    static let maxProblems = 1000

    public func open(_ flist: String) async throws(NodeError) -> KnownFlist { (try await opened(flist)).shown }

    public func forget(_ flist: String) async throws(NodeError) -> KnownFlist {
        let entry = try await known(flist)
        // Whoever took part in keeping it would be given it again.
        try await keeper.set(0, for: entry.record.digest)
        await prefetcher.cancelAll(of: entry.record.digest)
        await opener.close(entry.record.digest)
        readTraces.end(of: entry.record.digest)
        served.drop(entry.flist)
        return entry.shown
    }

    public func unkeep(_ flist: String) async throws(NodeError) -> KnownFlist {
        let entry = try await known(flist)
        guard keeper.goals[entry.record.digest] != nil else {
            throw .notFound("the site keeps no number of copies of \(entry.record.name)")
        }
        try await keeper.set(0, for: entry.record.digest)
        // A prefetch that still makes them is part of it.
        await prefetcher.cancelAll(of: entry.record.digest)
        return entry.shown
    }

    public func setPinned(_ flist: String, _ pinned: Bool) async throws(NodeError) -> KnownFlist {
        let entry = pinned ? try await opened(flist) : try await known(flist)
        try await reporting {
            try await self.parts.threads.run { [parts, catalogue] in
                if pinned {
                    try parts.store.pin(owner: entry.record.digest, entry.flist.chunks)
                } else {
                    _ = try parts.store.unpin(owner: entry.record.digest)
                }
                if let record = parts.flists.update(entry.record.digest, { $0.isPinned = pinned }) { try catalogue.save(record) }
            }
        }
        return entry.shown
    }

    private func opened(_ flist: String) async throws(NodeError) -> FlistTable.Entry {
        try await reporting { try await self.opener.open(flist) }
    }

    // MARK: Prefetch

    public func prefetch(_ request: PrefetchRequest) async throws(NodeError) -> Job {
        let scope = request.scope ?? .site
        let copies = request.copies ?? 1
        guard (1...255).contains(copies) else { throw .badRequest("copies is a number from 1 to 255") }
        guard request.copies == nil || scope == .site else { throw .badRequest("copies goes with scope site only") }
        let entry = try await opened(request.flist)
        var only: [Int]?
        if let patterns = request.path, !patterns.isEmpty {
            guard scope == .node else { throw .badRequest("path goes with scope node only") }
            only = try await reporting {
                try await self.parts.threads.run { try PathSelection.chunks(of: entry.flist, matching: patterns) }
            }
            if only!.isEmpty { throw .notFound("no file of \(entry.record.name) with content matches \(patterns.joined(separator: ", "))") }
        }
        let order = try request.profile.map { ids throws(NodeError) in try ProfileOrder(ids, of: entry) }
        if request.onlyProfile == true {
            guard let order, only == nil else { throw .badRequest("onlyProfile goes with profile, and not with path") }
            guard scope == .node else { throw .badRequest("onlyProfile goes with scope node only") }
            guard !order.indices.isEmpty else { throw .notFound("\(entry.record.name) has none of the chunks of the profile") }
            only = order.indices.sorted()
        }
        if request.copies != nil { try await keeper.set(UInt8(clamping: copies), for: entry.record.digest) }
        let job = try await prefetcher.start(
            entry, scope: scope, copies: copies, pin: request.pin ?? false, only: only, order: order)
        parts.wakeTicker()
        return await shown(job)
    }

    public func job(_ id: String, wait: Duration) async throws(NodeError) -> Job {
        guard let job = prefetcher.job(id) else { throw .notFound("no job has the id \(id)") }
        if wait > .zero { await job.ended(within: wait) }
        return await shown(job)
    }

    public func cancelJob(_ id: String) async throws(NodeError) -> Job {
        guard let job = prefetcher.job(id) else { throw .notFound("no job has the id \(id)") }
        await prefetcher.cancel(job)
        return await shown(job)
    }

    /// Bytes follow the chunks: exact when all are here, else by the mean of those that are.
    private func shown(_ prefetch: PrefetchJob) async -> Job { await parts.threads.run { [self] in shownNow(prefetch) } }

    private func shownNow(_ prefetch: PrefetchJob) -> Job {
        var job = prefetch.snapshot(now: parts.clock.now)
        guard let entry = parts.flists.entry(prefetch.digest) else { return job }
        var held: UInt64 = 0
        var count = 0
        for chunk in entry.flist.chunks {
            if let size = parts.store.size(of: chunk) {
                held += UInt64(size)
                count += 1
            }
        }
        let mean = count == 0 ? ChunkLimits.blockBytes : Int(held) / count
        if prefetch.wantsCopies, job.copies > 1 {
            let nodes = parts.gossip.siteMembers.count + 1
            if nodes < job.copies {
                job.note =
                    (job.note.map { $0 + "; " } ?? "")
                    + "the site has \(nodes) \(nodes == 1 ? "node" : "nodes"): it keeps \(nodes) until more come"
            }
        }
        let isWhole = count == entry.flist.chunks.count && job.chunks == count
        job.bytes = isWhole ? held : UInt64(job.chunks * mean)
        job.doneBytes = job.doneChunks == job.chunks ? job.bytes : UInt64(job.doneChunks * mean)
        return job
    }

    // MARK: Trees and files

    public func tree(_ flist: String, path: [UInt8], after: Int64?) async throws(NodeError) -> Tree {
        let entry = try await opened(flist)
        return try await reporting {
            try await self.parts.threads.run {
                try FlistListing.tree(of: entry.flist.file, path: path, after: after, limit: Self.listingPage)
            }
        }
    }

    public func image(_ flist: String) async throws(NodeError) -> any ServedFile {
        let entry = try await opened(flist)
        return try await reporting {
            try await self.parts.threads.run { [threads = self.parts.threads] in try FlistImage(entry, threads: threads) }
        }
    }

    public func signature(_ flist: String) async throws(NodeError) -> [UInt8] {
        let entry = try await opened(flist)
        guard let signature = entry.record.signature else {
            throw .notFound("\(entry.record.name) is not signed, as far as the site knows")
        }
        return signature.signature.fileBytes
    }

    public func chunk(_ flist: String, id: ChunkID) async throws(NodeError) -> Chunk {
        let entry = try await opened(flist)
        guard entry.flist.index(of: id) != nil else { throw .notFound("\(entry.record.name) has no chunk \(id.hex)") }
        readTraces.note(id, of: entry.record.digest)
        do {
            return try await fetcher.fetch(id, flist: entry.record.digest, priority: .foreground).chunk
        } catch FetchFailure.missing {
            throw .notFound("chunk \(id.hex): \(FetchFailure.missing)")
        } catch {
            throw .unavailable("chunk \(id.hex): \(error)")
        }
    }

    // MARK: Verification and the cache

    public func verify(_ flist: String, on place: VerifyPlace) async throws(NodeError) -> FlistVerification {
        let entry = try await opened(flist)
        let chunks = entry.flist.chunks
        var problems: [FlistVerification.Problem] = []
        var bad = 0
        await withTaskGroup(of: FlistVerification.Problem?.self) { group in
            var next = 0
            var underWay = 0
            while next < chunks.count || underWay > 0 {
                if next < chunks.count, underWay < Self.verifyWindow {
                    let index = next
                    group.addTask { await self.problem(with: chunks[index], index: index, of: entry, on: place) }
                    next += 1
                    underWay += 1
                } else {
                    underWay -= 1
                    guard let problem = await group.next() ?? nil else { continue }
                    bad += 1
                    if problems.count < Self.maxProblems { problems.append(problem) }
                }
            }
        }
        return FlistVerification(chunks: chunks.count, good: chunks.count - bad, problems: problems.sorted { $0.chunk < $1.chunk })
    }

    private func problem(with chunk: ChunkID, index: Int, of entry: FlistTable.Entry, on place: VerifyPlace) async -> FlistVerification
        .Problem?
    {
        switch place {
        case .node: return await isGoodHere(chunk) ? nil : .init(chunk: chunk.hex, reason: "not on this node")
        case .site:
            if await isGoodHere(chunk) { return nil }
            let holders = parts.gossip.read { machine, _ in
                machine.holders(of: entry.record.digest, index).filter { $0 != machine.me.id }
            }
            guard !holders.isEmpty else { return .init(chunk: chunk.hex, reason: "no node of the site holds it") }
            for holder in holders {
                guard let member = parts.gossip.member(holder) else { continue }
                let answer = await fetcher.exchange.ask(PeerRequest(.chunk(chunk, .ifHeld, flist: nil), priority: .prefetch), member)
                guard case .data(let buffer) = answer else { continue }
                let isRight = await parts.threads.run { Chunk(verifying: buffer, as: chunk) != nil }
                if isRight { return nil }
            }
            return .init(chunk: chunk.hex, reason: "nodes announce it, but none sent the right bytes")
        case .hub:
            guard let way = entry.flist.upstream else { return .init(chunk: chunk.hex, reason: "no upstream is known") }
            do throws(UpstreamError) {
                _ = try await way.chunk(chunk, priority: .prefetch, pool: parts.pool) { [parts] buffer, id in
                    await parts.threads.run { Chunk(verifying: buffer, as: id) }
                }
                return nil
            } catch {
                return .init(chunk: chunk.hex, reason: "\(error)")
            }
        }
    }

    private func isGoodHere(_ chunk: ChunkID) async -> Bool {
        guard parts.store.contains(chunk) else { return false }
        return (try? await parts.threads.run { [parts] in try parts.store.read(chunk, into: parts.pool) }) != nil
    }

    public func verifyCache() async throws(NodeError) -> CacheReport {
        try await reporting {
            try await self.parts.threads.run { [parts = self.parts] in
                let report = try parts.store.verify()
                return CacheReport(
                    chunks: report.checked, bytes: UInt64(clamping: report.bytes), removed: report.bad.map(\.hex), freedBytes: 0)
            }
        }
    }

    public func collectGarbage() async throws(NodeError) -> CacheReport {
        await parts.threads.run { [parts] in
            let report = parts.store.gc()
            let left = parts.store.statistics
            return CacheReport(
                chunks: left.chunks, bytes: UInt64(clamping: left.bytes), removed: [], freedBytes: UInt64(clamping: report.bytes))
        }
    }

    /// Turns what parts of the node throw into the words of the API.
    func reporting<R: Sendable>(_ body: @Sendable () async throws -> R) async throws(NodeError) -> R {
        do {
            return try await body()
        } catch let error as NodeError {
            throw error
        } catch let error as FlistError {
            throw error.code == .notFound ? .notFound(error.message) : .badRequest(error.message)
        } catch {
            throw .unavailable("\(error)")
        }
    }
}

extension FlistTable.Entry {
    var shown: KnownFlist {
        KnownFlist(name: record.name, digest: record.digest.hex, chunks: flist.chunks.count, signature: record.signature?.shown)
    }
}

extension FlistSignature {
    var shown: FlistSigner {
        FlistSigner(
            key: "\(signature.keyID)", trusted: isTrusted, comment: isTrusted ? FlistPath.quoted(signature.trustedComment) : nil)
    }
}
