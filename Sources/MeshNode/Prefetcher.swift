internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import FetchPlanner
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import Synchronization

/// Runs prefetches: those that users ask for, those of the last run that were not finished, and this node's part in those of other
/// nodes.
final class Prefetcher: Sendable {
    /// Chunks that one job waits for at a time: enough that every owner of the site has work, few enough to keep the order.
    static let window = 256
    /// Jobs of users that are remembered, ended ones included; the oldest ended one goes first.
    static let maxJobs = 256
    /// Pause before a job tries again what could not be had; doubled up to the limit.
    static let firstPause: Duration = .seconds(2)
    static let longestPause: Duration = .seconds(30)
    /// Between two looks at how far the other nodes are, at least, and in times of what one look takes.
    static let look: Duration = .milliseconds(200)
    static let lookShare = 10
    /// Prefetches of one other node that this one takes part in; further ones wait until one of them is over.
    static let maxJobsOfNode = 16
    /// A pin that another node asks for may take this part of the cache together with all pins, reckoned with full blocks.
    static let foreignPinShare = 2
    /// A job that has fetched every chunk so often finds its chunks evicted as fast as they come.
    static let maxTurns = 3

    struct State {
        var jobs: [String: PrefetchJob] = [:]
        var order: [String] = []
        var participations: [FlistDigest: PrefetchJob] = [:]
        var isStopped = false
    }

    let parts: NodeParts
    let fetcher: ChunkFetcher
    private let catalogue: CatalogueFile
    let state = Mutex(State())

    init(parts: NodeParts, fetcher: ChunkFetcher, catalogue: CatalogueFile) {
        (self.parts, self.fetcher, self.catalogue) = (parts, fetcher, catalogue)
    }

    // MARK: Jobs of users

    var jobs: [Job] {
        let now = parts.clock.now
        return state.withLock { state in state.order.compactMap { state.jobs[$0] } }.map { $0.snapshot(now: now) }
    }

    /// Jobs of other nodes that this one takes part in.
    var participationCount: Int { state.withLock { $0.participations.count } }

    func job(_ id: String) -> PrefetchJob? { state.withLock { $0.jobs[id] } }

    /// Starts a job, or finds the one that already does exactly this.
    ///
    /// - Throws: `NodeError.unavailable` while `maxJobs` run.
    func start(
        _ entry: FlistTable.Entry, scope: PrefetchScope, copies: Int, pin: Bool, only chunks: [Int]?, order: ProfileOrder? = nil,
        id: String? = nil
    ) async throws(NodeError) -> PrefetchJob {
        let digest = entry.record.digest
        var job = Job(
            id: id ?? Hex.encode(Sodium.randomBytes(6)), flist: entry.record.name, digest: digest.hex, scope: scope, copies: copies,
            pin: pin)
        job.chunks = chunks?.count ?? entry.flist.chunks.count
        job.note = order?.note
        let prefetch = PrefetchJob(job: job, digest: digest, isParticipation: false, order: order, now: parts.clock.now)
        // One with a profile is begun beside the same without it: together they get each chunk once.
        let known = try remember(prefetch, unlessKnown: chunks == nil && order == nil) { other in
            other.state == .running && other.scope == scope && other.copies == copies && other.pin == pin
        }
        if let known { return known }
        if chunks == nil {
            let record = JobRecord(id: job.id, digest: digest, scope: scope.rawValue, copies: copies, pin: pin)
            _ = try? await parts.threads.run { [catalogue] in try catalogue.save(record) }
        }
        launch(prefetch, entry.flist, scope: scope, copies: copies, pin: pin, only: chunks)
        return prefetch
    }

    /// - Returns: the job of the same flist that does the same, if there is one; then `job` is not taken in.
    private func remember(
        _ job: PrefetchJob, unlessKnown: Bool, isSame: (Job) -> Bool
    ) throws(NodeError) -> PrefetchJob? {
        let (known, isFull) = state.withLock { state -> (PrefetchJob?, Bool) in
            if unlessKnown, let known = state.jobs.values.first(where: { $0.digest == job.digest && $0.read { isSame($0.job) } }) {
                return (known, false)
            }
            let running = state.jobs.values.count { $0.read { $0.job.state == .running } }
            guard running < Self.maxJobs, !state.isStopped else { return (nil, true) }
            state.jobs[job.id] = job
            state.order.append(job.id)
            while state.order.count > Self.maxJobs,
                let old = state.order.first(where: { id in state.jobs[id]?.read { $0.job.state != .running } ?? true })
            {
                state.order.removeAll { $0 == old }
                state.jobs[old] = nil
            }
            return (nil, false)
        }
        if isFull { throw .unavailable("\(Self.maxJobs) prefetches run already; cancel one or wait") }
        return known
    }

    /// Ends all work without forgetting it: the next run goes on with it.
    func stop() {
        let jobs = state.withLock { state in
            state.isStopped = true
            return Array(state.jobs.values) + state.participations.values
        }
        for job in jobs { job.task?.cancel() }
    }

    private var isStopped: Bool { state.withLock { $0.isStopped } }

    func cancel(_ job: PrefetchJob) async {
        job.task?.cancel()
        await finish(job, .cancelled, error: "cancelled")
    }

    /// Takes up what the last run left.
    func restore() async {
        let records = (try? await parts.threads.run { [catalogue] in try catalogue.jobs() }) ?? []
        for record in records {
            guard let entry = parts.flists.entry(record.digest), let scope = PrefetchScope(rawValue: record.scope) else {
                _ = try? await parts.threads.run { [catalogue] in try catalogue.removeJob(record.id) }
                continue
            }
            _ = try? await start(entry, scope: scope, copies: min(max(record.copies, 1), 255), pin: record.pin, only: nil, id: record.id)
        }
    }

    /// Whether a prefetch for the site or for all is under way here for the flist.
    func fills(_ digest: FlistDigest) -> Bool {
        state.withLock { state in
            (state.jobs.values.filter { $0.digest == digest } + [state.participations[digest]].compactMap { $0 }).contains { job in
                job.read { $0.job.state == .running && $0.job.scope != .node }
            }
        }
    }

    func cancelAll(of digest: FlistDigest) async {
        let (jobs, participation) = state.withLock { state in
            (state.jobs.values.filter { $0.digest == digest }, state.participations.removeValue(forKey: digest))
        }
        for job in jobs { await cancel(job) }
        participation?.task?.cancel()
    }

    private func finish(_ job: PrefetchJob, _ end: Job.State, error: String? = nil) async {
        guard !isStopped else { return }
        job.end(end, error: error, now: parts.clock.now)
        guard !job.isParticipation else { return }
        let others = state.withLock { state in
            state.jobs.values.contains { other in other.digest == job.digest && other.read { $0.job.state == .running } }
        }
        if !others { parts.gossip.change { machine, _ in machine.removeFact(MeshFacts.jobKey(job.digest)) } }
        _ = try? await parts.threads.run { [catalogue] in try catalogue.removeJob(job.id) }
    }

    // MARK: Running

    private func launch(_ job: PrefetchJob, _ flist: OpenFlist, scope: PrefetchScope, copies: Int, pin: Bool, only: [Int]?) {
        job.setTask(Task { [self] in await run(job, flist, scope: scope, copies: copies, pin: pin, only: only) })
    }

    /// - Parameter order: of another node's job; one of this node has its own.
    func run(
        _ job: PrefetchJob, _ flist: OpenFlist, scope: PrefetchScope, copies: Int, pin: Bool, only: [Int]?, order: ProfileOrder? = nil
    ) async {
        if pin, !job.isParticipation || mayPin(flist) {
            do {
                try await parts.threads.run { [parts] in try parts.store.pin(owner: flist.digest, flist.chunks) }
                if let record = parts.flists.update(flist.digest, { $0.isPinned = true }) {
                    try await parts.threads.run { [catalogue] in try catalogue.save(record) }
                }
            } catch {
                return await finish(job, .failed, error: "the chunks cannot be pinned: \(error)")
            }
        }
        if !job.isParticipation, scope != .node {
            let fact = JobFact(
                scope: scope == .all ? .all : .site, copies: UInt8(clamping: copies), pin: pin, hasProfile: job.order != nil)
            parts.gossip.change { machine, _ in machine.setFact(MeshFacts.jobKey(flist.digest), fact.encoded) }
        }
        var pause = Self.firstPause
        let goal = PrefetchGoal(parts: parts, flist: flist, scope: scope, copies: copies, only: only, order: order ?? job.order)
        seek(goal, true)
        defer { seek(goal, false) }
        while !Task.isCancelled {
            let failures = await pass(job, goal)
            guard !Task.isCancelled else { break }
            if job.read({ $0.job.fromPeers + $0.job.fromSites + $0.job.fromUpstream }) > Self.maxTurns * max(goal.count, 1) {
                return await finish(
                    job, .failed, error: "the cache is too small: chunks are evicted as fast as they come; raise cache.maxSize")
            }
            if failures.missing > 0, failures.unreachable == 0 {
                return await finish(job, .failed, error: failures.line ?? "chunks are missing")
            }
            if failures.total == 0 {
                // Copies for the site are made anew when a node that had them goes, for as long as the job is announced.
                if scope == .node || (job.isParticipation && scope == .all) {
                    // What was evicted meanwhile is fetched again, as often as that makes sense.
                    if await parts.threads.run({ goal.mine().isEmpty }) { return await finish(job, .done) }
                    continue
                }
                if await othersAreDone(job, goal) { return await finish(job, .done) }
                continue
            }
            job.change { $0.error = failures.line }
            await rest(pause)
            pause = min(pause * 2, Self.longestPause)
        }
        await finish(job, .cancelled, error: "cancelled")
    }

    /// Waits before the next attempt, but no longer than until upstream answers again.
    private func rest(_ pause: Duration) async {
        let returns = fetcher.returns.load(ordering: .relaxed)
        let end = parts.clock.now + pause
        while parts.clock.now < end, fetcher.returns.load(ordering: .relaxed) == returns {
            do { try await Task.sleep(for: Self.look) } catch { return }
        }
    }

    struct Failures: Sendable {
        var missing = 0
        var unreachable = 0
        var line: String?
        var total: Int { missing + unreachable }
    }

    /// Gets every chunk that the goal gives to this node, in the order of the profile, then of the flist.
    private func pass(_ job: PrefetchJob, _ goal: PrefetchGoal) async -> Failures {
        parts.flists.touch(job.digest, now: parts.clock.now)
        let (todo, awaited) = await parts.threads.run { goal.inOrder(goal.mine(), window: Self.window) }
        if goal.isOfThisNode { job.change { $0.doneChunks = max($0.doneChunks, $0.chunks - todo.count) } }
        let watch = Task { [self] in
            var wasTroubled = false
            while !Task.isCancelled {
                // Chunks wait for as long as upstream rests: whoever looks is told why nothing happens.
                let trouble =
                    parts.upstream.hasWay(for: goal.flist.digest)
                    ? parts.line.waitReason ?? parts.upstream.trouble
                    : "the flist has no route that can be used; waiting for peers that hold its chunks"
                if trouble != nil || wasTroubled { job.change { $0.error = trouble } }
                wasTroubled = trouble != nil
                if goal.isOfThisNode { try? await Task.sleep(for: Self.look) } else { _ = await look(job, goal) }
            }
        }
        defer { watch.cancel() }
        return await withTaskGroup(of: (Int, Result<ChunkOrigin, any Error>).self) { group in
            var next = 0
            var failures = Failures()
            var underWay = 0
            while next < todo.count || underWay > 0 {
                if next < todo.count, underWay < Self.window, !Task.isCancelled {
                    let index = todo[next]
                    let chunk = goal.flist.chunks[index]
                    let priority = next < awaited ? FetchPriority.readAhead : .prefetch
                    group.addTask { [fetcher] in
                        do {
                            return (index, .success(try await fetcher.ensure(chunk, flist: goal.flist.digest, priority: priority)))
                        } catch {
                            return (index, .failure(error))
                        }
                    }
                    next += 1
                    underWay += 1
                    continue
                }
                guard let (_, result) = await group.next() else { break }
                underWay -= 1
                switch result {
                case .success(let origin):
                    job.count(origin)
                    if goal.isOfThisNode { job.change { $0.doneChunks = min($0.doneChunks + 1, $0.chunks) } }
                case .failure(FetchFailure.missing):
                    failures.missing += 1
                    failures.line = "\(failures.missing) of \(job.read { $0.job.chunks }) chunks are neither at the site nor on the hub"
                case .failure(is CancellationError): next = todo.count
                case .failure(let error):
                    failures.unreachable += 1
                    if failures.missing == 0 { failures.line = "\(error)" }
                }
            }
            return failures
        }
    }

    /// Looks how far the goal is, and whether something of it falls to this node; then rests, unless there is something to do.
    private func look(_ job: PrefetchJob, _ goal: PrefetchGoal, forWork: Bool = false) async -> (isReached: Bool, hasWork: Bool) {
        let begun = parts.clock.now
        parts.flists.touch(job.digest, now: begun)
        let (done, hasWork) = await parts.threads.run { (goal.done(), forWork && !goal.mine().isEmpty) }
        job.change { $0.doneChunks = done }
        let isReached = done == goal.count
        if !(forWork && (isReached || hasWork)) {
            try? await Task.sleep(for: max(Self.look, (parts.clock.now - begun) * Self.lookShare))
        }
        return (isReached, hasWork)
    }

    private func mayPin(_ flist: OpenFlist) -> Bool {
        let statistics = parts.store.statistics
        let bytes = Int64(flist.chunks.count) * Int64(ChunkLimits.blockBytes)
        let mayPin = statistics.pinnedBytes + bytes <= statistics.maxBytes / Int64(Self.foreignPinShare)
        if !mayPin {
            parts.logger.warning(
                "not pinned here: another node's prefetch may not pin that much of the cache",
                metadata: ["digest": "\(flist.digest)", "chunks": "\(flist.chunks.count)"])
        }
        return mayPin
    }

    /// Follows the other nodes until the goal is reached, or there is something to do for this node again.
    private func othersAreDone(_ job: PrefetchJob, _ goal: PrefetchGoal) async -> Bool {
        while !Task.isCancelled {
            let (isReached, hasWork) = await look(job, goal, forWork: true)
            if hasWork { return false }
            // Taking part lasts until the announcement goes.
            if isReached, !job.isParticipation { return true }
            if isReached { try? await Task.sleep(for: Self.look) }
        }
        return false
    }
}
