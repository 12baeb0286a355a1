internal import ChunkStore
internal import Logging
public import NodeConfiguration
internal import UpstreamStores

/// Settings that change while the node runs.
extension MeshNode {
    /// Applies what can change of a new configuration: `cache.maxSize`, `cache.decodedMax`, `cache.minFree`, `mesh.sites`, `mesh.allow`, `mesh.admin`, the keys
    /// in `mesh.keyFile`, `upstream.maxRate`, `upstream.windows`, `upstream.monthlyCap`, `upstream.concurrency`, `lan.maxSend`,
    /// `lan.maxReceive`, `trust`, and the credentials, whose files are read again.
    ///
    /// - Returns: the keys that were applied, and those that differ but need a restart.
    public func reload(_ new: Configuration) async throws -> (applied: [String], needRestart: [String]) {
        let old = current.value
        var applied: [String] = []
        // First: what cannot be read leaves everything as it was.
        stores.setCredentials(try await parts.threads.run { try UpstreamCredentials.load(file: new.upstream.credentialsFile) })
        if new.upstream.credentialsFile != nil || old.upstream.credentialsFile != nil { applied.append("upstream.credentialsFile") }
        if new.cache.maxSize != old.cache.maxSize || new.cache.minFree != old.cache.minFree {
            parts.store.setLimits(maxBytes: Int64(clamping: new.cache.maxSize), minFree: new.cache.minFree.floor)
            applied.append("cache limits")
        }
        if new.cache.decodedMax != old.cache.decodedMax || new.cache.minFree != old.cache.minFree {
            let cache = new.cache
            await parts.threads.run { [decodedFiles] in
                decodedFiles.setLimits(maxBytes: cache.decodedBytes, floor: cache.minFree.floorBytes)
            }
            if new.cache.decodedMax != old.cache.decodedMax { applied.append("cache.decodedMax") }
        }
        if new.upstream.concurrency != old.upstream.concurrency {
            parts.upstreamConcurrency.value = new.upstream.concurrency
            applied.append("upstream.concurrency")
        }
        let lineKeys = [
            ("upstream.maxRate", new.upstream.maxRate != old.upstream.maxRate),
            ("upstream.windows", new.upstream.windows != old.upstream.windows),
            ("upstream.monthlyCap", new.upstream.monthlyCap != old.upstream.monthlyCap),
        ].filter(\.1).map(\.0)
        if !lineKeys.isEmpty {
            parts.line.configure(new.upstream)
            applied += lineKeys
        }
        if new.lan.maxSend != old.lan.maxSend || new.lan.maxReceive != old.lan.maxReceive {
            exchange.setLimits(new.lan.limits)
            applied.append("lan limits")
        }
        if new.mesh.sites != old.mesh.sites {
            parts.sites.allow(new.mesh.sites)
            parts.profileChanged()
            applied.append("mesh.sites")
        }
        if new.trust != old.trust {
            parts.trust.set(new.trust)
            await trustChanged()
            applied.append("trust")
        }
        if try await parts.threads.run({ [strangers] in try strangers.keeper.reload() }) { applied.append("mesh.keyFile") }
        if new.mesh.allow != old.mesh.allow || new.mesh.admin != old.mesh.admin {
            strangers.rules.set(allowed: new.mesh.allow, admin: new.mesh.admin)
            applied.append("mesh.allow, mesh.admin")
        }
        var rest = new
        (rest.mesh.sites, rest.mesh.allow, rest.mesh.admin) = (old.mesh.sites, old.mesh.allow, old.mesh.admin)
        rest.cache.maxSize = old.cache.maxSize
        rest.cache.minFree = old.cache.minFree
        rest.cache.decodedMax = old.cache.decodedMax
        rest.upstream.concurrency = old.upstream.concurrency
        rest.upstream.maxRate = old.upstream.maxRate
        (rest.upstream.windows, rest.upstream.monthlyCap) = (old.upstream.windows, old.upstream.monthlyCap)
        (rest.lan.maxSend, rest.lan.maxReceive) = (old.lan.maxSend, old.lan.maxReceive)
        rest.upstream.credentialsFile = old.upstream.credentialsFile
        var needRestart: [String] = []
        for (section, differs) in [
            ("node", rest.node != old.node), ("mesh", rest.mesh != old.mesh), ("cache", rest.cache != old.cache),
            ("upstream", rest.upstream != old.upstream), ("lan", rest.lan != old.lan),
            ("api", rest.api != old.api),
        ] where differs { needRestart.append(section) }
        var merged = old
        merged.cache.maxSize = new.cache.maxSize
        merged.cache.minFree = new.cache.minFree
        merged.cache.decodedMax = new.cache.decodedMax
        merged.upstream.concurrency = new.upstream.concurrency
        merged.upstream.maxRate = new.upstream.maxRate
        (merged.upstream.windows, merged.upstream.monthlyCap) = (new.upstream.windows, new.upstream.monthlyCap)
        (merged.lan.maxSend, merged.lan.maxReceive) = (new.lan.maxSend, new.lan.maxReceive)
        merged.trust = new.trust
        (merged.mesh.sites, merged.mesh.allow, merged.mesh.admin) = (new.mesh.sites, new.mesh.allow, new.mesh.admin)
        merged.upstream.credentialsFile = new.upstream.credentialsFile
        current.value = merged
        parts.wakeTicker()
        return (applied, needRestart)
    }

    /// Looks at every open flist again; those that are refused now are forgotten.
    private func trustChanged() async {
        for entry in parts.flists.all {
            do {
                _ = try await opener.settleAgain(entry)
            } catch {
                parts.logger.warning("flist is refused now", metadata: ["flist": "\(entry.record.name)", "error": "\(error)"])
                await prefetcher.cancelAll(of: entry.record.digest)
                await opener.close(entry.record.digest)
            }
        }
    }
}
