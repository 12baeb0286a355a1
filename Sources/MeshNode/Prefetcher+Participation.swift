internal import ChunkModel
internal import ControlModel
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import Synchronization

/// This node's part in the prefetches of other nodes.
extension Prefetcher {
    /// Looks for jobs that other nodes announce and takes part in new ones.
    func joinOthers(open: @escaping @Sendable (FlistDigest) async throws -> FlistTable.Entry) {
        guard parts.mode == .both else { return }
        let found = parts.gossip.read { machine, _ -> [(FlistDigest, JobFact, Member)] in
            var found: [(FlistDigest, JobFact, Member)] = []
            for member in machine.liveOthers {
                let jobs = machine.facts(of: member.id).filter { $0.key.kind == MeshFacts.job }.sorted {
                    $0.key.id.lexicographicallyPrecedes($1.key.id)
                }
                for (key, value) in jobs.prefix(Self.maxJobsOfNode) {
                    guard let digest = MeshFacts.digest(of: key), let fact = JobFact(value) else { continue }
                    found.append((digest, fact, member))
                }
            }
            return found
        }
        let wanted = Dictionary(found.map { ($0.0, $0.1) }, uniquingKeysWith: { a, b in a.scope == .all ? a : b })
        let profiles = Dictionary(found.filter { $0.1.hasProfile }.map { ($0.0, $0.2) }, uniquingKeysWith: { a, _ in a })
        let (fresh, over) = state.withLock { state -> ([(FlistDigest, JobFact, PrefetchJob)], [PrefetchJob]) in
            // A finished one stays until the announcement goes, so that it is not begun again.
            let over = state.participations.filter { wanted[$0.key] == nil }
            for digest in over.keys { state.participations[digest] = nil }
            var fresh: [(FlistDigest, JobFact, PrefetchJob)] = []
            for (digest, fact) in wanted
            where state.participations[digest] == nil && state.participations.count < FlistTable.maxForeign && !state.isStopped {
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
        for (_, fact, job) in fresh {
            job.setTask(
                Task { [self] in
                    guard let entry = await opened(job, open) else { return }
                    let order = await order(of: entry, from: profiles[job.digest])
                    await run(
                        job, entry.flist, scope: fact.scope == .all ? .all : .site, copies: Int(fact.copies), pin: fact.pin, only: nil,
                        order: order)
                })
        }
    }

    /// Tries for as long as the job is announced.
    private func opened(_ job: PrefetchJob, _ open: (FlistDigest) async throws -> FlistTable.Entry) async -> FlistTable.Entry? {
        let digest = job.digest
        var pause = Self.firstPause
        while !Task.isCancelled, state.withLock({ $0.participations[digest] === job }) {
            do { return try await open(digest) } catch {
                parts.logger.info("flist of a prefetch cannot be had yet", metadata: ["digest": "\(digest)", "error": "\(error)"])
            }
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, Self.longestPause)
        }
        return nil
    }
}
