internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import FetchPlanner
internal import Glibc
internal import Gossip
internal import Logging
internal import MeshKeys
internal import UpstreamStores

/// Flists by URL: one node of the site downloads for all.
extension FlistOpener {
    static func key(ofURL url: String) -> UInt64 { Blake2b.hash256(Array(url.utf8)).prefix64 }

    func open(url: String) async throws -> FlistTable.Entry {
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
            let name = FlistRecord.name(of: url)
            let entry = try await pull(digest, first: owner.id)
            let others = await signatures(of: digest, first: owner.id)
            let signature = try await settled(entry, name: name, others: others, url: url)
            // The places that it names are opened only when somebody trusted signed them, they are where the user sent us anyway, or where
            // the operator did.
            let routes = try await parts.threads.run { [files] in
                try OpenFlist.file(digest, path: entry.path, files: files).routes
            }
            guard signature?.isTrusted == true || routes.allSatisfy({ isNamedHere($0.url, beside: url) }) else { return nil }
            let admitted = try await admit(entry, name: name, url: url, validators: nil, isVouched: true, signature: signature)
            note(digest, as: key)
            return admitted
        } catch {
            parts.logger.info("flist could not be had from its owner; fetching it here", metadata: ["url": "\(url)", "error": "\(error)"])
            return nil
        }
    }

    private func isNamedHere(_ route: String, beside url: String) -> Bool {
        guard let host = StoreOpener.origin(route) else { return false }
        return host == StoreOpener.origin(url) || configuredHosts.contains(host)
    }

    private func download(_ url: String, key: UInt64, known: FlistTable.Entry?) async throws -> FlistTable.Entry {
        let temporary = files.directory + "/download-\(String(key, radix: 16))"
        let validators = known.map { FlistDownload.Validators(etag: $0.record.etag, lastModified: $0.record.lastModified) }
        do {
            if let reason = parts.line.closedReason {
                throw UpstreamError.failed(retryable: false, line: "\(url) is not fetched: \(reason)")
            }
            let use = parts.line.began(.foreground)
            defer { parts.line.ended(use) }
            switch try await downloads.fetch(url, to: temporary, known: validators) {
            case .notModified:
                guard let known else { throw NodeError.unavailable("\(url): the server says that nothing changed, but nothing was known") }
                note(known.record.digest, as: key)
                parts.upstream.noteAnswer(of: known.record.digest)
                // It may have been signed since.
                guard parts.trust.isActive, known.record.signature?.isTrusted != true,
                    let offered = try await signature(besideURL: url, name: known.record.name)
                else { return known }
                return try await settleAgain(known, offered: offered)
            case .downloaded(let path, let digest, let bytes, let validators):
                defer { unlink(path) }
                let name = FlistRecord.name(of: url)
                let offered = try await signature(besideURL: url, name: name)
                let entry = try await parts.threads.run { [files] in try files.add(copying: path, expecting: digest) }
                parts.logger.info("flist fetched", metadata: ["url": "\(url)", "bytes": "\(bytes)", "digest": "\(digest)"])
                let signature = try await settled(entry, name: name, offered: offered)
                let admitted = try await admit(
                    entry, name: name, url: url, validators: validators, isVouched: true, signature: signature)
                note(digest, as: key)
                return admitted
            }
        } catch let error as UpstreamError {
            if case .missing = error { throw NodeError.notFound("\(url): not found on the server") }
            // Without the hub, what the site has goes on working.
            if let known {
                parts.upstream.noteTrouble("\(error)", of: known.record.digest, now: parts.clock.now)
                parts.logger.warning("flist could not be checked for a newer version", metadata: ["url": "\(url)", "error": "\(error)"])
                return known
            }
            var found = await digest(knownToPeersAs: key) ?? announced(name: FlistRecord.name(of: url))?.0
            if found == nil { found = await self.digest(knownToSitesAs: key) }
            guard let digest = found else {
                throw NodeError.unavailable("\(error)")
            }
            do {
                let entry = try await open(digest, named: FlistRecord.name(of: url))
                parts.upstream.noteTrouble("\(error)", of: digest, now: parts.clock.now)
                parts.logger.warning(
                    "hub out of reach; using what the site has", metadata: ["url": "\(url)", "digest": "\(digest)", "error": "\(error)"])
                return entry
            } catch let other {
                throw NodeError.unavailable("\(error); what the site has cannot be used either: \(other)")
            }
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
    func note(_ digest: FlistDigest, as key: UInt64) {
        let now = parts.clock.now
        if versions.count >= Self.maxVersions { versions = versions.filter { now - $0.value.fetchedAt < Self.freshness } }
        if versions.count < Self.maxVersions { versions[key] = Version(digest: digest, fetchedAt: now) }
    }

    /// Whether it is time to ask the peers for its signature again; counts as asked.
    func mayAskForSignature(of digest: FlistDigest) -> Bool {
        let now = parts.clock.now
        if let last = signaturesAsked[digest], now - last < Self.signaturePause { return false }
        signaturesAsked[digest] = now
        return true
    }
}
