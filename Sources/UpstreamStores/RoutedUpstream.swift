public import ChunkModel
internal import Synchronization

/// The routes of an flist and the URLs of the operator as one store.
///
/// Stores are opened when first needed; those that cannot be used are left out. The operator's URLs come first, then the routes, tier
/// by tier; among those of one tier the order is random, weighted by what worked before. "Missing" leads to the next store; when all
/// that cover the chunk miss it, so does this one; when one of them failed, the chunk may exist, and the error says so. A verified chunk
/// is offered to the routes that are caches and cover it.
public final class RoutedUpstream: UpstreamStore {
    /// Routes looked at; further ones of the flist are ignored.
    public static let maxRoutes = 256
    /// The smallest weight of a store that only fails: it is still tried first now and then, and so found to be back.
    static let leastWeight = 0.05
    /// How much the last fetch counts in a store's weight.
    static let learning = 0.25

    /// Opens the store of a URL; throws `.unusable` where that cannot be.
    public typealias Opener = @Sendable (_ url: String) throws(UpstreamError) -> any UpstreamStore
    /// Checks bytes off the cooperative pool; `nil` when they do not hash to the id.
    public typealias Verifier = @Sendable (_ buffer: ChunkBuffer, _ id: ChunkID) async -> Chunk?

    /// Offers a chunk to the cache at a URL, in the background.
    typealias CacheKeeper = @Sendable (_ chunk: Chunk, _ url: String) -> Void

    private struct Entry {
        let route: Route
        let isOperators: Bool
        var opened: Result<any UpstreamStore, UpstreamError>?
        var success = 1.0
    }

    private struct Candidate {
        let index: Int
        let url: String
        let store: any UpstreamStore
    }

    private let entries: Mutex<[Entry]>
    /// By the index of the entry.
    private let wrong = Mutex(WrongBytes())
    private let open: Opener
    private let caches: [Route]
    private let keep: CacheKeeper?
    private let random: UpstreamRandom
    public let label: String

    /// - Parameters:
    ///   - routes: of the flist; ranges may overlap or leave gaps.
    ///   - operatorURLs: for all chunks, tried before the routes.
    ///   - override: leave the routes out.
    public convenience init(
        routes: [Route], operatorURLs: [String] = [], override: Bool = false, random: UpstreamRandom = UpstreamRandom(),
        open: @escaping Opener
    ) {
        self.init(routes: routes, operatorURLs: operatorURLs, override: override, random: random, open: open, keep: nil)
    }

    init(
        routes: [Route], operatorURLs: [String], override: Bool, random: UpstreamRandom, open: @escaping Opener, keep: CacheKeeper?
    ) {
        var seen: Set<String> = []
        var entries: [Entry] = []
        for url in operatorURLs where seen.insert(url).inserted {
            entries.append(Entry(route: Route(url: url), isOperators: true))
        }
        let known = override ? [] : routes.prefix(Self.maxRoutes)
        for route in known where !route.isCache && !seen.contains(route.url) { entries.append(Entry(route: route, isOperators: false)) }
        caches = known.filter(\.isCache)
        self.keep = keep
        label = entries.count == 1 ? UpstreamURL.label(of: entries[0].route.url) : "\(entries.count) upstreams"
        self.entries = Mutex(entries)
        (self.open, self.random) = (open, random)
    }

    /// With the stores of this project.
    public convenience init(
        routes: [Route], operatorURLs: [String] = [], override: Bool = false, opener: StoreOpener, random: UpstreamRandom = UpstreamRandom()
    ) {
        self.init(
            routes: routes, operatorURLs: operatorURLs, override: override, random: random,
            open: { url throws(UpstreamError) -> any UpstreamStore in try opener.open(url) },
            keep: { chunk, url in opener.caches.offer(chunk, to: url) { url throws(UpstreamError) in try opener.openSink(url) } })
    }

    /// Whether any store may be asked for `id`: what a node tells its site about reaching an upstream.
    public func covers(_ id: ChunkID) -> Bool { (try? candidates(id)) != nil }

    /// Unverified bytes of the first store that has them.
    public func fetch(_ id: ChunkID, priority: FetchPriority, pool: ChunkBufferPool) async throws(UpstreamError) -> ChunkBuffer {
        try await firstSuccess(id) { (candidate) async throws(UpstreamError) in
            try await candidate.store.fetch(id, priority: priority, pool: pool)
        }
    }

    /// The chunk, verified: a store that sends wrong bytes is noted, and the next one asked.
    public func chunk(
        _ id: ChunkID, priority: FetchPriority, pool: ChunkBufferPool, verify: Verifier
    ) async throws(UpstreamError) -> Chunk {
        try await firstSuccess(id) { (candidate) async throws(UpstreamError) in
            let store = candidate.store
            if let pause = wrong.withLock({ $0.pause(candidate.index, id, now: .now) }) {
                throw .failed(
                    retryable: true,
                    line: "\(store.label): sent wrong bytes for chunk \(id.hex.prefix(12))…; asked again in \(pause.spoken)")
            }
            let buffer = try await store.fetch(id, priority: priority, pool: pool)
            if let chunk = await verify(buffer, id) {
                wrong.withLock { $0.noteRight(candidate.index, id) }
                offerToCaches(chunk, from: candidate.url)
                return chunk
            }
            store.noteBadContent()
            wrong.withLock { $0.noteWrong(candidate.index, id, now: .now) }
            throw .failed(retryable: true, line: "\(store.label): chunk \(id.hex.prefix(12))…: wrong bytes (\(buffer.count) of them)")
        }
    }

    /// Nothing here: which of the stores it was is not known. Use `chunk(_:priority:pool:verify:)`.
    public func noteBadContent() {}

    private func offerToCaches(_ chunk: Chunk, from url: String) {
        guard let keep else { return }
        var urls: Set<String> = [url]
        for route in caches where route.range.contains(chunk.id) && urls.insert(route.url).inserted { keep(chunk, route.url) }
    }

    private func firstSuccess<T>(
        _ id: ChunkID, _ ask: (Candidate) async throws(UpstreamError) -> T
    ) async throws(UpstreamError) -> T {
        var reasons: [String] = []
        var retryable = false
        for candidate in try candidates(id) {
            do throws(UpstreamError) {
                let result = try await ask(candidate)
                learn(candidate.index, 1)
                return result
            } catch {
                switch error {
                case .missing: break
                case .cancelled: throw error
                case .failed(let again, let line):
                    learn(candidate.index, 0)
                    retryable = retryable || again
                    reasons.append(line)
                case .unusable(let line):
                    learn(candidate.index, 0)
                    reasons.append(line)
                }
            }
        }
        if reasons.isEmpty { throw .missing }
        throw .failed(retryable: retryable, line: reasons.joined(separator: "; "))
    }

    /// The usable stores for `id` in the order to try them; never empty.
    private func candidates(_ id: ChunkID) throws(UpstreamError) -> [Candidate] {
        let matching = entries.withLock { entries in
            entries.indices.filter { entries[$0].route.range.contains(id) }.sorted {
                (entries[$0].route.tier, $0) < (entries[$1].route.tier, $1)
            }
        }
        guard !matching.isEmpty else {
            let first = Hex.encode([id.firstByte])
            throw .unusable(line: "no route for chunks that begin with \(first) (chunk \(id.hex.prefix(12))…): add a URL to upstream.urls")
        }
        var weighted: [(candidate: Candidate, tier: Int, key: Double)] = []
        var reasons: [String] = []
        var urls: Set<String> = []
        for index in matching {
            let (entry, opened) = opened(index)
            guard urls.insert(entry.route.url).inserted else { continue }
            switch opened {
            case .success(let store):
                // Weighted order without replacement: the larger u^(1/w), the earlier (Efraimidis and Spirakis 2006).
                let weight = max(entry.success, Self.leastWeight)
                let key = power(random.fraction(), 1 / weight)
                let candidate = Candidate(index: index, url: entry.route.url, store: store)
                weighted.append((candidate, entry.isOperators ? .min : entry.route.tier, key))
            case .failure(let error):
                reasons.append(error.description)
            }
        }
        guard !weighted.isEmpty else { throw .unusable(line: reasons.joined(separator: "; ")) }
        return weighted.sorted { ($0.tier, $1.key) < ($1.tier, $0.key) }.map(\.candidate)
    }

    private func opened(_ index: Int) -> (Entry, Result<any UpstreamStore, UpstreamError>) {
        entries.withLock { entries in
            if let opened = entries[index].opened { return (entries[index], opened) }
            let url = entries[index].route.url
            // One store for one URL, however many ranges name it.
            let sibling = entries.first { $0.route.url == url && $0.opened != nil }?.opened
            let opened = sibling ?? Result { () throws(UpstreamError) in try open(url) }
            entries[index].opened = opened
            return (entries[index], opened)
        }
    }

    private func learn(_ index: Int, _ outcome: Double) {
        entries.withLock { entries in
            entries[index].success += (outcome - entries[index].success) * Self.learning
        }
    }
}
