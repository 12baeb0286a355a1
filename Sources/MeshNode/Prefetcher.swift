internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import ControlAPI
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
    /// Between two looks at how far the other nodes are.
    static let look: Duration = .milliseconds(200)

    private struct State {
        var jobs: [String: PrefetchJob] = [:]
        var order: [String] = []
        var participations: [FlistDigest: PrefetchJob] = [:]
    }

    let parts: NodeParts
    let fetcher: ChunkFetcher
    private let catalogue: CatalogueFile
    private let state = Mutex(State())

    init(parts: NodeParts, fetcher: ChunkFetcher, catalogue: CatalogueFile) {
        (self.parts, self.fetcher, self.catalogue) = (parts, fetcher, catalogue)
    }

    // MARK: Jobs of users

    var jobs: [Job] {
        let now = parts.clock.now
        return state.withLock { state in state.order.compactMap { state.jobs[$0] } }.map { $0.snapshot(now: now) }
    }

    func job(_ id: String) -> PrefetchJob? { state.withLock { $0.jobs[id] } }

    /// Starts a job, or finds the one that already does exactly this.
    func start(
        _ entry: FlistTable.Entry, scope: PrefetchScope, copies: Int, pin: Bool, only chunks: [Int]?, id: String? = nil
    ) async -> PrefetchJob {
        let digest = entry.record.digest
        if chunks == nil,
            let running = state.withLock({ state in
                state.jobs.values.first { job in
                    job.digest == digest
                        && job.read { $0.job.state == .running && $0.job.scope == scope && $0.job.copies == copies && $0.job.pin == pin }
                }
            })
        {
            return running
        }
        var job = Job(
            id: id ?? Hex.encode(Sodium.randomBytes(6)), flist: entry.record.name, digest: digest.hex, scope: scope, copies: copies,
            pin: pin)
        job.chunks = chunks?.count ?? entry.flist.chunks.count
        let prefetch = PrefetchJob(job: job, digest: digest, isParticipation: false, now: parts.clock.now)
        if chunks == nil {
            let record = JobRecord(id: job.id, digest: digest, scope: scope.rawValue, copies: copies, pin: pin)
            _ = try? await parts.threads.run { [catalogue] in try catalogue.save(record) }
        }
        remember(prefetch)
        launch(prefetch, entry.flist, scope: scope, copies: copies, pin: pin, only: chunks)
        return prefetch
    }

    private func remember(_ job: PrefetchJob) {
        state.withLock { state in
            state.jobs[job.id] = job
            state.order.append(job.id)
            while state.order.count > Self.maxJobs,
                let old = state.order.first(where: { id in state.jobs[id]?.read { $0.job.state != .running } ?? true })
            {
                state.order.removeAll { $0 == old }
                state.jobs[old] = nil
            }
        }
    }

    func cancel(_ job: PrefetchJob) async {
        job.task?.cancel()
        await finish(job, .cancelled, error: "cancelled")
    }

    /// Takes up what the last run left.
    func restore() async {
        let records = (try? await parts.threads.run { [catalogue] in try catalogue.jobs() }) ?? []
        for record in records {
            guard let entry = parts.flists.entry(record.digest), let scope = PrefetchScope(rawValue: record.scope) else { continue }
            _ = await start(entry, scope: scope, copies: record.copies, pin: record.pin, only: nil, id: record.id)
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
        job.end(end, error: error, now: parts.clock.now)
        guard !job.isParticipation else { return }
        let others = state.withLock { state in
            state.jobs.values.contains { other in other.digest == job.digest && other.read { $0.job.state == .running } }
        }
        if !others { parts.gossip.change { machine, _ in machine.removeFact(MeshFacts.jobKey(job.digest)) } }
        _ = try? await parts.threads.run { [catalogue] in try catalogue.removeJob(job.id) }
    }

    // MARK: Other nodes' jobs

    /// Looks for jobs that other nodes announce and takes part in new ones.
    func joinOthers(open: @escaping @Sendable (FlistDigest) async throws -> FlistTable.Entry) {
        let found = parts.gossip.read { machine, _ -> [(FlistDigest, JobFact)] in
            var found: [(FlistDigest, JobFact)] = []
            for (node, member) in machine.members where member.state.isLive && node != machine.me.id {
                for (key, value) in machine.facts(of: node) where key.kind == MeshFacts.job {
                    guard let digest = MeshFacts.digest(of: key), let fact = JobFact(value) else { continue }
                    if fact.scope == .all || member.site == machine.me.site { found.append((digest, fact)) }
                }
            }
            return found
        }
        let wanted = Dictionary(found.map { ($0.0, $0.1) }, uniquingKeysWith: { a, b in a.scope == .all ? a : b })
        let (fresh, over) = state.withLock { state -> ([(FlistDigest, JobFact, PrefetchJob)], [PrefetchJob]) in
            // A finished one stays until the announcement goes, so that it is not begun again.
            let over = state.participations.filter { wanted[$0.key] == nil }
            for digest in over.keys { state.participations[digest] = nil }
            var fresh: [(FlistDigest, JobFact, PrefetchJob)] = []
            for (digest, fact) in wanted where state.participations[digest] == nil && state.participations.count < FlistTable.maxOpen {
                let job = Job(
                    id: "", flist: "", digest: digest.hex, scope: fact.scope == .all ? .all : .site, copies: Int(fact.copies), pin: fact.pin
                )
                let participation = PrefetchJob(job: job, digest: digest, isParticipation: true, now: parts.clock.now)
                state.participations[digest] = participation
                fresh.append((digest, fact, participation))
            }
            return (fresh, Array(over.values))
        }
        // A copy for everybody is finished even when the one who asked has gone; copies for the site follow the site's need.
        for job in over where job.read({ $0.job.scope == .site }) { job.task?.cancel() }
        for (digest, fact, job) in fresh {
            job.setTask(
                Task { [self] in
                    guard let entry = await opened(digest, open) else { return }
                    await run(
                        job, entry.flist, scope: fact.scope == .all ? .all : .site, copies: Int(fact.copies), pin: fact.pin, only: nil)
                })
        }
    }

    private func opened(_ digest: FlistDigest, _ open: (FlistDigest) async throws -> FlistTable.Entry) async -> FlistTable.Entry? {
        var pause = Self.firstPause
        while !Task.isCancelled {
            do { return try await open(digest) } catch {
                parts.logger.info("flist of a prefetch cannot be had yet", metadata: ["digest": "\(digest)", "error": "\(error)"])
            }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, Self.longestPause)
        }
        return nil
    }

    // MARK: Running

    private func launch(_ job: PrefetchJob, _ flist: OpenFlist, scope: PrefetchScope, copies: Int, pin: Bool, only: [Int]?) {
        job.setTask(Task { [self] in await run(job, flist, scope: scope, copies: copies, pin: pin, only: only) })
    }

    private func run(_ job: PrefetchJob, _ flist: OpenFlist, scope: PrefetchScope, copies: Int, pin: Bool, only: [Int]?) async {
        if pin {
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
            let fact = JobFact(scope: scope == .all ? .all : .site, copies: UInt8(clamping: copies), pin: pin)
            parts.gossip.change { machine, _ in machine.setFact(MeshFacts.jobKey(flist.digest), fact.encoded) }
        }
        var pause = Self.firstPause
        while !Task.isCancelled {
            let goal = PrefetchGoal(parts: parts, flist: flist, scope: scope, copies: copies, only: only)
            let failures = await pass(job, goal)
            guard !Task.isCancelled else { break }
            if failures.missing > 0, failures.unreachable == 0 {
                return await finish(job, .failed, error: failures.line ?? "chunks are missing")
            }
            if failures.total == 0 {
                if job.isParticipation, scope == .site {
                    // What falls to this node changes as nodes come, go and hear of the flist; it ends with the announcement.
                    while !Task.isCancelled, goal.mine().isEmpty { try? await Task.sleep(for: Self.look) }
                    continue
                }
                if job.isParticipation || scope == .node { return await finish(job, .done) }
                if await othersAreDone(job, goal) { return await finish(job, .done) }
                continue
            }
            job.change { $0.error = failures.line }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, Self.longestPause)
        }
        await finish(job, .cancelled, error: "cancelled")
    }

    struct Failures: Sendable {
        var missing = 0
        var unreachable = 0
        var line: String?
        var total: Int { missing + unreachable }
    }

    /// Gets every chunk that the goal gives to this node, in the order of the flist.
    private func pass(_ job: PrefetchJob, _ goal: PrefetchGoal) async -> Failures {
        let todo = goal.mine()
        if goal.isOfThisNode { job.change { $0.doneChunks = max($0.doneChunks, $0.chunks - todo.count) } }
        let watch = Task { [self] in
            var wasTroubled = false
            while !Task.isCancelled {
                if !goal.isOfThisNode { _ = noteProgress(job, goal) }
                // Chunks wait for as long as upstream rests: whoever looks is told why nothing happens.
                let trouble =
                    parts.upstream.hasWay(for: goal.flist.digest)
                    ? parts.upstream.trouble : "the flist has no route that can be used; waiting for peers that hold its chunks"
                if trouble != nil || wasTroubled { job.change { $0.error = trouble } }
                wasTroubled = trouble != nil
                try? await Task.sleep(for: Self.look)
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
                    group.addTask { [fetcher] in
                        do {
                            return (index, .success(try await fetcher.ensure(chunk, flist: goal.flist.digest, priority: .prefetch)))
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

    /// - Returns: whether the goal is reached.
    private func noteProgress(_ job: PrefetchJob, _ goal: PrefetchGoal) -> Bool {
        let done = goal.done()
        job.change { $0.doneChunks = done }
        return done == goal.count
    }

    /// Follows the other nodes until the goal is reached, or there is something to do for this node again.
    private func othersAreDone(_ job: PrefetchJob, _ goal: PrefetchGoal) async -> Bool {
        while !Task.isCancelled {
            if noteProgress(job, goal) { return true }
            if !goal.mine().isEmpty { return false }
            try? await Task.sleep(for: Self.look)
        }
        return false
    }
}
