internal import ChunkStore
public import NodeConfiguration
internal import UpstreamStores

/// Settings that change while the node runs.
extension MeshNode {
    /// Applies the limits of a new configuration: `cache.maxSize`, `cache.minFree`, `upstream.maxRate`, `upstream.concurrency`, and
    /// the credentials, whose file is read again. Blocking for as long as that takes.
    ///
    /// - Returns: the keys that were applied, and those that differ but need a restart.
    public func reload(_ new: Configuration) throws -> (applied: [String], needRestart: [String]) {
        let old = current.value
        var applied: [String] = []
        // First: what cannot be read leaves everything as it was.
        stores.setCredentials(try UpstreamCredentials.load(file: new.upstream.credentialsFile))
        if new.upstream.credentialsFile != nil || old.upstream.credentialsFile != nil { applied.append("upstream.credentialsFile") }
        if new.cache.maxSize != old.cache.maxSize || new.cache.minFree != old.cache.minFree {
            parts.store.setLimits(maxBytes: Int64(clamping: new.cache.maxSize), minFree: new.cache.minFree.floor)
            applied.append("cache limits")
        }
        if new.upstream.concurrency != old.upstream.concurrency {
            parts.upstreamConcurrency.value = new.upstream.concurrency
            applied.append("upstream.concurrency")
        }
        if new.upstream.maxRate != old.upstream.maxRate {
            siteUpstream.setRate(new.upstream.maxRate)
            applied.append("upstream.maxRate")
        }
        var rest = new
        rest.cache.maxSize = old.cache.maxSize
        rest.cache.minFree = old.cache.minFree
        rest.upstream.concurrency = old.upstream.concurrency
        rest.upstream.maxRate = old.upstream.maxRate
        rest.upstream.credentialsFile = old.upstream.credentialsFile
        var needRestart: [String] = []
        for (section, differs) in [
            ("node", rest.node != old.node), ("mesh", rest.mesh != old.mesh), ("cache", rest.cache != old.cache),
            ("upstream", rest.upstream != old.upstream),
            ("api", rest.api != old.api),
        ] where differs { needRestart.append(section) }
        var merged = old
        merged.cache.maxSize = new.cache.maxSize
        merged.cache.minFree = new.cache.minFree
        merged.upstream.concurrency = new.upstream.concurrency
        merged.upstream.maxRate = new.upstream.maxRate
        merged.upstream.credentialsFile = new.upstream.credentialsFile
        current.value = merged
        parts.wakeTicker()
        return (applied, needRestart)
    }
}
