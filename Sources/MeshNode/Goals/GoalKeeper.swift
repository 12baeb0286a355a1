internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import Synchronization

/// Keeps the copies that the site's standing goals ask for: `prefetch --copies N`.
///
/// Each node of the site that takes part tells the goal on and remembers it, so that it outlives any of them. When copies go with a node,
/// the others wait for it to come back, and then restore the number: who takes which chunk follows from the same ranking everywhere.
final class GoalKeeper: Sendable {
    /// Times, which tests shorten.
    struct Times: Sendable {
        /// How long a chunk must have had too few copies before it is copied: the reboot of a server fits into it.
        var grace: Duration = .seconds(180)
        /// Between two looks at a goal, at least, and in times of what one look takes.
        var look: Duration = .seconds(2)
        /// A node whose cache has no room leaves its share to the others for so long.
        var fullPause: Duration = .seconds(600)
    }
    static let lookShare = 20
    /// Between two looks at what the others tell: facts of a large site change all the time.
    static let shortestLook: Duration = .milliseconds(300)
    /// Chunks that are copied at the same time, and stored bytes in a second: a restoring node leaves the LAN to others.
    static let window = 8
    static let bytesPerSecond = 16 << 20
    /// Pause before it tries again what could not be had; doubled up to the limit.
    static let firstPause: Duration = .seconds(2)
    static let longestPause: Duration = .seconds(30)

    /// What a goal's task found at its last look.
    struct Progress: Sendable {
        enum State: String, Sendable { case opening, filling, kept, waiting, restoring, short }
        var state = State.opening
        var note: String?
        /// Chunks that this node copied for the goal.
        var copied = 0
    }

    private struct Work {
        let copies: UInt8
        let task: Task<Void, Never>
    }

    private struct State {
        var book = GoalBook()
        var work: [FlistDigest: Work] = [:]
        var progress: [FlistDigest: Progress] = [:]
        var fullUntil: Duration = .zero
        /// What this node tells, so that facts which are no longer told are taken back.
        var told: Set<FlistDigest> = []
        /// Flists that cannot be opened here: others take this node's share.
        var unopened: Set<FlistDigest> = []
        var isLoaded = false
        var isStopped = false
    }

    let times = Setting(Times())
    private let parts: NodeParts
    private let fetcher: ChunkFetcher
    private let prefetcher: Prefetcher
    private let catalogue: CatalogueFile
    private let state = Mutex(State())
    private let bell = Wakeup()

    init(parts: NodeParts, fetcher: ChunkFetcher, prefetcher: Prefetcher, catalogue: CatalogueFile) {
        (self.parts, self.fetcher, self.prefetcher, self.catalogue) = (parts, fetcher, prefetcher, catalogue)
    }

    // MARK: What is to be kept

    /// Sets or changes a goal of the site.
    ///
    /// - Parameter copies: 0 ends it.
    /// - Throws: `NodeError.unavailable` when there are too many.
    func set(_ copies: UInt8, for digest: FlistDigest) async throws(NodeError) {
        // What was said before comes first, so that this is the latest word.
        await load()
        hear()
        guard state.withLock({ $0.book.set(copies, for: digest) }) else {
            throw .unavailable("the site keeps copies of \(GoalBook.maxActive) flists already; end one with chunkmesh unkeep")
        }
        await settle()
    }

    var goals: [FlistDigest: KeepGoal] { state.withLock { $0.book.active } }
    func progress(of digest: FlistDigest) -> Progress? { state.withLock { $0.progress[digest] } }

    /// Something may have been told.
    func wake() { bell.wake() }

    /// Runs until it is cancelled.
    ///
    /// - Parameter open: makes an flist known that others of the site have.
    func run(open: @escaping @Sendable (FlistDigest) async throws -> FlistTable.Entry) async {
        await load()
        var isFirst = true
        while !Task.isCancelled {
            if hear() || isFirst { await settle() }
            isFirst = false
            tell()
            work(open)
            await bell.sleep(times.value.look)
            try? await Task.sleep(for: Self.shortestLook)
        }
        let tasks = state.withLock { state in
            state.isStopped = true
            return state.work.values.map(\.task)
        }
        for task in tasks { task.cancel() }
        for task in tasks { await task.value }
    }

    /// What the last run left.
    private func load() async {
        guard state.withLock({ !$0.isLoaded }) else { return }
        let remembered = (try? await parts.threads.run { [catalogue] in try catalogue.goals() }) ?? [:]
        state.withLock { state in
            for (digest, goal) in remembered { _ = state.book.merge(goal, for: digest) }
            state.isLoaded = true
        }
    }

    /// Takes in what the other nodes of the site tell.
    ///
    /// - Returns: whether there was news.
    @discardableResult
    private func hear() -> Bool {
        let told = parts.gossip.read { machine, _ -> [(FlistDigest, KeepGoal)] in
            machine.liveOthers.flatMap { member in
                machine.facts(of: member.id).compactMap { key, value in
                    guard key.kind == MeshFacts.goal, let digest = MeshFacts.digest(of: key), let fact = GoalFact(value) else { return nil }
                    return (digest, fact.goal)
                }
            }
        }
        return state.withLock { state in
            told.reduce(false) { state.book.merge($1.1, for: $1.0) || $0 }
        }
    }

    /// Remembers the goals, and tells them on.
    private func settle() async {
        let book = state.withLock { $0.book }
        parts.goals.set(book.active)
        do { try await parts.threads.run { [catalogue] in try catalogue.save(book.goals) } } catch {
            parts.logger.warning("the site's goals cannot be remembered", metadata: ["error": "\(error)"])
        }
        tell()
        wake()
    }

    private func tell() {
        let now = parts.clock.now
        let (goals, isFull, unopened, gone) = state.withLock { state in
            let gone = state.told.subtracting(state.book.goals.keys)
            state.told = Set(state.book.goals.keys)
            return (state.book.goals, state.fullUntil > now, state.unopened, gone)
        }
        parts.gossip.change { machine, _ in
            for digest in gone { machine.removeFact(MeshFacts.goalKey(digest)) }
            for (digest, goal) in goals {
                let cannot = goal.isActive && (isFull || unopened.contains(digest))
                _ = machine.setFact(MeshFacts.goalKey(digest), GoalFact(goal: goal, isFull: cannot).encoded)
            }
        }
    }

    // MARK: Keeping it

    /// One task for each goal in force.
    private func work(_ open: @escaping @Sendable (FlistDigest) async throws -> FlistTable.Entry) {
        let over = state.withLock { state -> [Task<Void, Never>] in
            guard !state.isStopped else { return [] }
            let active = state.book.active
            let over = state.work.filter { active[$0.key]?.copies != $0.value.copies }
            for digest in over.keys {
                state.work[digest] = nil
                if active[digest] == nil { (state.progress[digest], _) = (nil, state.unopened.remove(digest)) }
            }
            for (digest, goal) in active where state.work[digest] == nil {
                let task = Task { [self] in await keep(digest, copies: Int(goal.copies), open) }
                state.work[digest] = Work(copies: goal.copies, task: task)
                state.progress[digest, default: Progress()].state = .opening
            }
            return over.values.map(\.task)
        }
        for task in over { task.cancel() }
    }

    private func note(_ digest: FlistDigest, _ change: (inout Progress) -> Void) {
        state.withLock { state in if state.progress[digest] != nil { change(&state.progress[digest]!) } }
    }

    private func keep(_ digest: FlistDigest, copies: Int, _ open: (FlistDigest) async throws -> FlistTable.Entry) async {
        var history = ShortHistory(grace: times.value.grace)
        var pause = Self.firstPause
        while !Task.isCancelled {
            guard let entry = await opened(digest, open, &pause) else { continue }
            let begun = parts.clock.now
            parts.flists.touch(digest, now: begun)
            if prefetcher.fills(digest) {
                // A prefetch of the same is under way, and does this node's part.
                note(digest) { ($0.state, $0.note) = (.filling, nil) }
                try? await Task.sleep(for: times.value.look)
                continue
            }
            let round = await parts.threads.run { [parts] in parts.keepRound(of: entry, copies: copies) }
            history.grace = times.value.grace
            let (due, late) = history.note(round.short, now: begun)
            let share = isFull ? [] : round.share(of: parts.identity.id, chunks: entry.flist.chunks, due: due, late: late)
            note(digest) { $0.state = Self.state(round, copies: copies, due: due) }
            if share.isEmpty {
                let look = times.value.look
                try? await Task.sleep(for: max(look, (parts.clock.now - begun) * Self.lookShare))
            } else if await restore(share, of: entry) {
                pause = Self.firstPause
            } else {
                try? await Task.sleep(for: pause)
                pause = min(pause * 2, Self.longestPause)
            }
        }
    }

    private static func state(_ round: KeepRound, copies: Int, due: [UInt64]) -> Progress.State {
        if due.contains(where: { $0 != 0 }) { return .restoring }
        if round.keptChunks < round.counts.count { return .waiting }
        return round.wanted < copies ? .short : .kept
    }

    private func opened(
        _ digest: FlistDigest, _ open: (FlistDigest) async throws -> FlistTable.Entry, _ pause: inout Duration
    ) async -> FlistTable.Entry? {
        do {
            let entry: FlistTable.Entry
            if let known = parts.flists.entry(digest) { entry = known } else { entry = try await open(digest) }
            state.withLock { _ = $0.unopened.remove(digest) }
            return entry
        } catch {
            state.withLock { state in if state.book.active[digest] != nil { state.unopened.insert(digest) } }
            note(digest) { ($0.state, $0.note) = (.opening, "\(error)") }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, Self.longestPause)
            return nil
        }
    }

    private var isFull: Bool {
        let now = parts.clock.now
        return state.withLock { $0.fullUntil > now }
    }

    /// Copies chunks to this node: from the peers that hold them, from upstream only what nobody holds.
    ///
    /// - Returns: `false` when something could not be had.
    private func restore(_ share: [Int], of entry: FlistTable.Entry) async -> Bool {
        let begun = parts.clock.now
        let kept = parts.store.statistics.evictedKept
        let digest = entry.record.digest
        let (bytes, failure) = await withTaskGroup(of: Result<ChunkID, any Error>.self) { [fetcher] group in
            var next = 0
            var underWay = 0
            var bytes = 0
            var failure: (any Error)?
            while (next < share.count && failure == nil && !Task.isCancelled) || underWay > 0 {
                if next < share.count, underWay < Self.window, failure == nil, !Task.isCancelled {
                    let chunk = entry.flist.chunks[share[next]]
                    group.addTask {
                        do {
                            _ = try await fetcher.ensure(chunk, flist: digest, priority: .prefetch)
                            return .success(chunk)
                        } catch {
                            return .failure(error)
                        }
                    }
                    next += 1
                    underWay += 1
                    continue
                }
                guard let result = await group.next() else { break }
                underWay -= 1
                switch result {
                case .success(let chunk):
                    bytes += parts.store.size(of: chunk) ?? 0
                    note(digest) { $0.copied += 1 }
                case .failure(is CancellationError): break
                case .failure(let error): failure = error
                }
            }
            return (bytes, failure)
        }
        // Room that is made by dropping what is kept for the site is none.
        let store = parts.store.statistics
        if store.evictedKept > kept || (failure != nil && store.bytes + Int64(ChunkLimits.blockBytes) > store.maxBytes) {
            let until = parts.clock.now + times.value.fullPause
            state.withLock { $0.fullUntil = until }
            note(digest) { $0.note = "this node's cache has no room for further copies; raise cache.maxSize" }
            tell()
            return true
        }
        if let failure, !Task.isCancelled { note(digest) { $0.note = "\(failure)" } } else { note(digest) { $0.note = nil } }
        let rest = Duration.seconds(Double(bytes) / Double(Self.bytesPerSecond)) - (parts.clock.now - begun)
        if rest > .zero { try? await Task.sleep(for: rest) }
        return failure == nil
    }
}

extension NodeParts {
    /// What the site has of an flist and who takes part, as gossip tells. Looks at every chunk: blocking.
    func keepRound(of entry: FlistTable.Entry, copies: Int) -> KeepRound {
        let digest = entry.record.digest
        let holders = gossip.read { machine, _ -> [KeepRound.Holder] in
            let key = MeshFacts.goalKey(digest)
            return (machine.liveOthers.map(\.id) + [machine.me.id]).compactMap { node in
                let bitmap = machine.bitmap(of: node, digest)
                let fact = machine.facts(of: node)[key].flatMap(GoalFact.init)
                guard bitmap != nil || fact?.goal.isActive == true else { return nil }
                return KeepRound.Holder(node: node, bitmap: bitmap, isFull: fact?.isFull ?? (node != machine.me.id))
            }
        }
        return KeepRound(copies: copies, chunkCount: entry.flist.chunks.count, holders: holders)
    }
}
