public import ChunkModel
internal import Synchronization

/// Opens the stores of a node by their URLs: the one place that knows which scheme is what.
///
/// A URL that several flists name is one store, so that its circuit, its limit and its counts are those of the upstream.
public final class StoreOpener: Sendable {
    /// Stores kept; beyond that the one unused for longest is let go. Flists that still hold it go on with it.
    public static let maxStores = 256

    private struct Kept {
        let gate: UpstreamGate
        var store: (any UpstreamStore)?
        var sink: (any ChunkSink)?
        var lastUse: UInt64
    }

    private struct State {
        var kept: [String: Kept] = [:]
        var uses: UInt64 = 0
        /// What the stores that were let go had counted.
        var retired = UpstreamStatistics()
    }

    let curl: CurlMulti
    let limits: UpstreamLimits
    let random: UpstreamRandom
    let credentials: CredentialBox
    /// Keeps chunks in the caches that flists name.
    public let caches: CacheWriter
    private let state = Mutex(State())

    /// - Parameters:
    ///   - curl: for all that speaks HTTP; its counters count along for every store of whatever scheme.
    ///   - named: URLs that the operator or the user gave, as opposed to an flist: keys of the environment are sent to their hosts only.
    ///   - tell: gets a line when a cache that an flist names takes no chunks.
    public init(
        curl: CurlMulti, credentials: UpstreamCredentials = UpstreamCredentials(), named: [String] = [],
        limits: UpstreamLimits = UpstreamLimits(), random: UpstreamRandom = UpstreamRandom(),
        tell: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        caches = CacheWriter(counters: curl.counters, tell: tell)
        (self.curl, self.limits, self.random) = (curl, limits, random)
        let endpoints = named.compactMap { try? Opening($0).endpoint }
        self.credentials = CredentialBox(credentials, named: Set(endpoints))
    }

    /// Replaces the credentials, also of stores that are open.
    public func setCredentials(_ new: UpstreamCredentials) { credentials.set(new) }

    /// The store that chunks are read from at `url`. Opens no connection and no file.
    ///
    /// - Throws: `.unusable`, with one line, when there can be none.
    public func open(_ url: String) throws(UpstreamError) -> any UpstreamStore {
        try kept(url, \.store) { (opening, gate) throws(UpstreamError) in try makeStore(opening, gate) }
    }

    /// The store that chunks are put into at `url`. Opens no connection; creates a directory only when the first chunk comes.
    ///
    /// - Throws: `UpstreamError.unusable`, with one line, when nothing can be written there.
    public func openSink(_ url: String) throws(UpstreamError) -> any ChunkSink {
        try kept(url, \.sink) { (opening, gate) throws(UpstreamError) in try makeSink(opening, gate) }
    }

    private func kept<Store>(
        _ url: String, _ part: WritableKeyPath<Kept, Store?>, _ make: (Opening, UpstreamGate) throws(UpstreamError) -> Store
    ) throws(UpstreamError) -> Store {
        if let store = use(url)?[keyPath: part] { return store }
        let opening = try Opening(url)
        let gate = keep(url, gate(opening)) { $0.gate }
        let store = try make(opening, gate)
        return keep(url, gate) { kept in
            let one = kept[keyPath: part] ?? store
            kept[keyPath: part] = one
            return one
        }
    }

    /// Whether a store can be opened at `url`, without keeping it.
    ///
    /// - Throws: `.unusable` with the reason.
    public static func check(_ url: String) throws(UpstreamError) { _ = try Opening(url) }

    /// `url` as an flist may record it for its readers: without names, keys, passwords and tokens.
    ///
    /// - Throws: `.unusable` when it is no URL of a store.
    public static func recorded(_ url: String) throws(UpstreamError) -> String { try Opening(url).recorded }

    /// `scheme://host:port` of a URL, the port written out: what two URLs have in common that lead to the same place. `nil` for a directory
    /// and for what is no URL of a store.
    public static func origin(_ url: String) -> String? {
        guard let endpoint = (try? Opening(url))?.endpoint else { return nil }
        let host = endpoint.host.contains(":") ? "[\(endpoint.host)]" : endpoint.host
        return "\(url.prefix { $0 != ":" }.lowercased())://\(host):\(endpoint.port)"
    }

    /// The upstreams that are open, in the order of their labels; URLs that differ in their credentials only have one label each.
    public var reports: [UpstreamReport] {
        state.withLock { Array($0.kept.values) }.map(\.gate.report).sorted { $0.label < $1.label }
    }

    /// What upstreams that are no longer open had counted.
    public var retired: UpstreamStatistics { state.withLock { $0.retired } }

    private func gate(_ opening: Opening) -> UpstreamGate {
        var limits = limits
        // A file that cannot be read now cannot be read in a second.
        if case .directory = opening { limits.retry.attempts = 1 }
        return UpstreamGate(label: opening.label, limits: limits, counters: curl.counters, random: random)
    }

    private func use(_ url: String) -> Kept? {
        state.withLock { state in
            state.uses += 1
            state.kept[url]?.lastUse = state.uses
            return state.kept[url]
        }
    }

    /// Two may open the same at the same moment: both get what the first one kept.
    private func keep<T>(_ url: String, _ gate: UpstreamGate, _ change: (inout Kept) -> T) -> T {
        let (result, dropped) = state.withLock { state -> (T, Kept?) in
            state.uses += 1
            var kept = state.kept[url] ?? Kept(gate: gate, lastUse: state.uses)
            kept.lastUse = state.uses
            let result = change(&kept)
            state.kept[url] = kept
            guard state.kept.count > Self.maxStores, let oldest = state.kept.min(by: { $0.value.lastUse < $1.value.lastUse })?.key else {
                return (result, nil)
            }
            let dropped = state.kept.removeValue(forKey: oldest)
            if let dropped { state.retired += dropped.gate.counters.snapshot }
            return (result, dropped)
        }
        // Its threads and connections end outside the lock.
        withExtendedLifetime(dropped) {}
        return result
    }
}
