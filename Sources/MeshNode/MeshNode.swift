internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import DecodedFiles
internal import Flist
internal import Glibc
internal import Gossip
internal import GossipTransport
public import Logging
internal import MeshKeys
public import NodeConfiguration
internal import PeerExchange
internal import ReadAPI
internal import ReadServer
public import ServiceLifecycle
internal import UpstreamStores

/// One node of the mesh: the only place where its parts are put together.
public final class MeshNode: Service {
    /// The version that is shown to people and scripts.
    public static let version = "0.1.0"
    /// Bytes of decoded blocks that are kept for readers.
    static let decodedBytes = 32 << 20
    /// Between two announcements of what was pulled from upstream.
    static let profileInterval: Duration = .seconds(2)
    /// The longest pause between two looks of the ticker, and the shortest: however often gossip brings news, the planner looks at all
    /// its wants once in this time.
    static let tick: Duration = .seconds(1)
    static let shortestTick: Duration = .milliseconds(10)

    let configuration: Configuration
    let parts: NodeParts
    let fetcher: ChunkFetcher
    let opener: FlistOpener
    let prefetcher: Prefetcher
    let keeper: GoalKeeper
    let exchange: PeerExchange
    let files: FlistFiles
    let catalogue: CatalogueFile
    let upstreamCounters: UpstreamCounters
    let stores: StoreOpener
    let decoded = DecodedBlockCache(maxBytes: MeshNode.decodedBytes)
    let decodedFiles: DecodedFiles
    let reading: ReadService
    let served = ServedFiles()
    let readTraces: ReadTraces
    let strangers: NodeStrangers
    let isRestored = Setting(false)
    /// The configuration in force: reloads change some of it.
    let current: Setting<Configuration>

    /// Opens the cache and everything on disk; nothing is bound or sent yet. Blocking.
    ///
    /// - Throws: one clear line: cache in use, directory not writable, key file wrong, …
    public init(configuration: Configuration, logger: Logger) throws {
        self.configuration = configuration
        current = Setting(configuration)
        let ring = try configuration.mesh.keyFile.map { try MeshKeyRing.load(file: $0) }
        let late = LateHooks()
        let store = try ChunkStore(
            ChunkStoreConfiguration(
                directory: configuration.cache.dir, maxBytes: Int64(clamping: configuration.cache.maxSize),
                minFree: configuration.cache.minFree.floor,
                custody: { late.value?.custody(of: $0, isLeaving: $1) ?? .kept }, onRemoved: { late.value?.announce($0) },
                onOffer: { late.value?.announce($0) }), logger: logger)
        let identity = try Self.identity(in: configuration.cache.dir)
        files = try FlistFiles(directory: configuration.cache.dir + "/flists")
        catalogue = try Self.openCatalogue(configuration.cache.dir + "/catalogue.db", logger: logger)

        var gossipConfiguration = GossipTransportConfiguration(
            listen: try Self.listenAddress(configuration.mesh.listen, hasKey: ring != nil))
        gossipConfiguration.advertise = configuration.mesh.advertise
        gossipConfiguration.seeds = configuration.mesh.seeds.map(\.description)
        gossipConfiguration.multicast = configuration.mesh.multicast
        let exchangeHandle = LateExchange()
        let gossip = try GossipTransport(
            configuration: gossipConfiguration, identity: identity, name: configuration.node.name, site: configuration.node.site,
            incarnation: UInt64(max(0, time(nil))), ring: ring, logger: logger
        ) { node, address, request in
            await exchangeHandle.exchangeState(request, with: node, at: address)
        }

        let pool = ChunkBufferPool(keep: 48)
        let rate = ReceiveRate()
        let (clock, ticker) = (NodeClock(), Wakeup())
        let threads = BlockingThreads(count: max(2, BlockingThreads.machineThreads))
        let line = LineKeeper(
            rate: rate, upstream: configuration.upstream, me: identity.id, gossip: gossip, exchange: exchangeHandle, clock: clock,
            ticker: ticker, threads: threads, directory: configuration.cache.dir, logger: logger)
        parts = NodeParts(
            identity: identity, clock: clock, store: store, gossip: gossip, flists: FlistTable(), upstream: UpstreamState(),
            sites: OtherSites(configuration.mesh.sites), line: line,
            trust: FlistTrust(configuration.trust), counters: NodeCounters(),
            threads: threads, pool: pool,
            upstreamConcurrency: Setting(configuration.upstream.concurrency), ticker: ticker, mode: configuration.lan.mode, logger: logger)
        readTraces = ReadTraces { clock.now }
        fetcher = ChunkFetcher(parts: parts, exchange: exchangeHandle)
        prefetcher = Prefetcher(parts: parts, fetcher: fetcher, catalogue: catalogue)
        keeper = GoalKeeper(parts: parts, fetcher: fetcher, prefetcher: prefetcher, catalogue: catalogue)

        let curl = CurlMulti(rate: rate)
        upstreamCounters = curl.counters
        let credentials = try UpstreamCredentials.load(file: configuration.upstream.credentialsFile)
        let stores = StoreOpener(curl: curl, credentials: credentials, named: configuration.upstream.urls) { reason in
            logger.warning("a cache that an flist names takes no chunks", metadata: ["reason": "\(reason)"])
        }
        self.stores = stores
        let operators = configuration.upstream.urls
        let overrides = configuration.upstream.override
        parts.upstream.setOperators(
            operators.isEmpty ? nil : RoutedUpstream(routes: [], operatorURLs: operators, override: true, opener: stores))
        let flistCurl = CurlMulti(rate: rate, counters: curl.counters)
        opener = FlistOpener(
            parts: parts, fetcher: fetcher, files: files, catalogue: catalogue,
            downloads: FlistDownload(curl: flistCurl, opener: stores), signatures: SignatureDownload(curl: flistCurl, opener: stores),
            configuredHosts: Set(operators.compactMap(StoreOpener.origin))
        ) { routes in
            guard !(routes.isEmpty || overrides) || !operators.isEmpty else { return nil }
            return RoutedUpstream(routes: routes, operatorURLs: operators, override: overrides, opener: stores)
        }
        let keys = KeyKeeper(file: configuration.mesh.keyFile, ring: ring, gossip: gossip, exchange: exchangeHandle, logger: logger)
        let rules = try MemberRules(
            me: identity.id, directory: configuration.cache.dir, allowed: configuration.mesh.allow, admin: configuration.mesh.admin,
            gossip: gossip, exchange: exchangeHandle, logger: logger)
        strangers = NodeStrangers(
            keeper: keys, rules: rules,
            rotator: try KeyRotator(
                parts: parts, keeper: keys, rules: rules, exchange: exchangeHandle, directory: configuration.cache.dir),
            spread: RevocationSpread(parts: parts, rules: rules, exchange: exchangeHandle))
        decodedFiles = try DecodedFiles(
            directory: configuration.cache.dir + "/decoded", configuration.cache, parts: parts, unstored: decoded)
        reading = ReadService(
            parts: parts, fetcher: fetcher, opener: opener, prefetcher: prefetcher, files: files, decoded: decodedFiles, blocks: decoded,
            isRestored: isRestored, traces: readTraces)
        let service = PeerService(
            parts: parts, fetcher: fetcher, files: files, opener: opener, rotator: strangers.rotator, rules: rules
        ) { [prefetcher] in prefetcher.order(of: $0) }
        var exchangeConfiguration = ExchangeConfiguration(listen: gossipConfiguration.listen.listenAddresses).withinDescriptors()
        exchangeConfiguration.limits = configuration.lan.limits
        exchangeConfiguration.sealsBulk = configuration.mesh.sealChunks
        exchange = PeerExchange(
            configuration: exchangeConfiguration, identity: identity, keys: ring, handler: service, pool: pool, logger: logger)
        exchangeHandle.set(exchange)
        rules.apply()
        late.value = StoreHooks(parts: parts)
        line.setOnGate { [weak fetcher] in fetcher?.setLineGate($0) }
    }

    /// Listens, joins and serves until cancelled or shut down gracefully; then says goodbye to the mesh and closes the cache.
    public func run() async throws {
        defer { parts.store.close() }
        let reads = try readServer()
        try exchange.start()
        try reads?.start()
        parts.logger.info(
            "node starts",
            metadata: [
                "name": "\(configuration.node.name)", "site": "\(configuration.node.site)", "id": "\(parts.identity.id)",
                "version": "\(Self.version)",
                "exchange": "\(exchange.boundPort.map { "\($0)" } ?? "?")", "cached": "\(parts.store.statistics.chunks)",
            ])
        parts.profileChanged()
        let ending = await cancelWhenGracefulShutdown { [self] in
            await Result<Void, any Error>.catching { try await live() }
        }
        prefetcher.stop()
        reading.stop()
        await reads?.stop()
        fetcher.stop()
        exchange.stop()
        await parts.threads.run { [parts, decodedFiles] in
            parts.line.saveNow()
            decodedFiles.close()
        }
        try ending.get()
    }

    private func live() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.parts.gossip.run() }
            group.addTask { await self.restore() }
            group.addTask { await self.followMesh() }
            group.addTask { await self.keepTime() }
            // The first failure ends the node; on cancellation all of them return.
            defer { group.cancelAll() }
            try await group.waitForAll()
        }
    }

    private func restore() async {
        await opener.restore()
        isRestored.value = true
        await prefetcher.restore()
        await keeper.run { [opener] in try await opener.openForPeers($0) }
    }

    /// Reacts to what happens in the mesh.
    private func followMesh() async {
        // A refuted suspicion is no news to people.
        var gone: Set<NodeID> = []
        var reaching: [NodeID: Bool] = [:]
        for await event in parts.gossip.events {
            var isLineDue = true
            switch event {
            case .joined(let member): log("peer joined", member)
            case .alive(let member): if gone.remove(member.id) != nil { log("peer is back", member) }
            case .suspect(let member):
                isLineDue = false
                parts.logger.debug("peer is suspected", metadata: ["peer": "\(member.name)"])
            case .dead(let member):
                log("peer is dead", member)
                gone.insert(member.id)
                exchange.disconnect(member.id)
            case .left(let member):
                log("peer left", member)
                gone.insert(member.id)
                exchange.disconnect(member.id)
            case .updated: isLineDue = false
            // By far the most frequent. Wants that a new holder can serve look again by themselves in a moment (FetchPlanner.tick).
            case .availabilityChanged: continue
            case .forgeries(let source):
                let name = parts.gossip.members().first { $0.address == source }?.name
                parts.logger.warning(
                    "a holder of the mesh key sends records that their nodes did not sign; it is not believed",
                    metadata: ["address": "\(source)", "peer": "\(name ?? "unknown")"])
            case .factsChanged(let node):
                strangers.spread.look(at: node)
                if upstreamIsBack(at: node, &reaching) { fetcher.goOn() }
                prefetcher.joinOthers { [opener] in try await opener.openForPeers($0) }
                keeper.wake()
            }
            fetcher.tick()
            // News come in swarms: the ticker looks after the last of them.
            if isLineDue { parts.line.lookSoon() }
        }
    }

    /// - Parameter reaching: what was known of the members.
    private func upstreamIsBack(at node: NodeID, _ reaching: inout [NodeID: Bool]) -> Bool {
        let (reaches, members) = parts.gossip.read { machine, _ in
            let isLive = machine.members[node]?.state.isLive ?? false
            return (isLive && machine.profile(of: node)?.reachesUpstream == true, machine.members.count)
        }
        if reaching.count > members { reaching = [:] }
        defer { reaching[node] = reaches }
        return reaches && reaching[node] == false
    }

    private func log(_ line: Logger.Message, _ member: Member) {
        parts.logger.info(
            line, metadata: ["peer": "\(member.name)", "site": "\(member.site)", "address": "\(member.address)", "id": "\(member.id)"])
    }

    /// Gives the planner its time, and tells the site what was pulled.
    private func keepTime() async {
        var nextProfile = parts.clock.now + Self.profileInterval
        var identityWatch = IdentityWatch()
        while !Task.isCancelled {
            let now = parts.clock.now
            let due = min(fetcher.nextTick ?? now + Self.tick, nextProfile, parts.line.nextLook)
            await parts.ticker.sleep(due - now)
            let rest = Self.shortestTick - (parts.clock.now - now)
            if rest > .zero { try? await Task.sleep(for: rest) }
            fetcher.tick()
            if parts.clock.now >= parts.line.nextLook { parts.line.look() }
            if parts.clock.now >= nextProfile {
                parts.profileChanged()
                identityWatch.look(parts.gossip.counters().machine.ownIdentityConflicts, parts.logger)
                nextProfile = parts.clock.now + Self.profileInterval
            }
        }
    }
}

extension Result where Failure == any Error {
    static func catching(_ body: () async throws -> Success) async -> Self {
        do { return .success(try await body()) } catch { return .failure(error) }
    }
}
