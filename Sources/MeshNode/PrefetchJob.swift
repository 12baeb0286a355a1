internal import ChunkModel
internal import ControlModel
internal import Synchronization

/// One prefetch: what was asked for, and how far it is.
final class PrefetchJob: Sendable {
    struct Progress: Sendable {
        var job: Job
        var startedAt: Duration
        var endedAt: Duration?
        /// Bytes of the chunks that were fetched or found by this job on this node.
        var bytes: UInt64 = 0
        var task: Task<Void, Never>?
        var watchers: [UInt64: CheckedContinuation<Void, Never>] = [:]
        var nextWatcher: UInt64 = 0
    }

    let id: String
    let digest: FlistDigest
    /// Follows another node's job: not shown and not remembered.
    let isParticipation: Bool
    /// What comes first; `nil` is the order of the flist.
    let order: ProfileOrder?
    private let progress: Mutex<Progress>

    init(job: Job, digest: FlistDigest, isParticipation: Bool, order: ProfileOrder? = nil, now: Duration) {
        (id, self.digest, self.isParticipation, self.order) = (job.id, digest, isParticipation, order)
        progress = Mutex(Progress(job: job, startedAt: now))
    }

    /// Made copies for the site.
    var wantsCopies: Bool { read { $0.job.scope == .site } }

    func read<R: Sendable>(_ body: (Progress) -> R) -> R { progress.withLock { body($0) } }
    func change(_ body: (inout Job) -> Void) { progress.withLock { body(&$0.job) } }
    /// The task that does it; one that comes after the end is cancelled.
    func setTask(_ task: Task<Void, Never>) {
        let isOver = progress.withLock { progress in
            progress.task = task
            return progress.job.state != .running
        }
        if isOver { task.cancel() }
    }
    var task: Task<Void, Never>? { progress.withLock { $0.task } }

    func count(_ origin: ChunkOrigin) {
        progress.withLock { progress in
            switch origin {
            case .local: progress.job.fromLocal += 1
            case .peer: progress.job.fromPeers += 1
            case .upstream: progress.job.fromUpstream += 1
            case .site: progress.job.fromSites += 1
            }
        }
    }

    /// The last word on the job; later ones are ignored.
    func end(_ state: Job.State, error: String? = nil, now: Duration) {
        let watchers = progress.withLock { progress -> [CheckedContinuation<Void, Never>] in
            guard progress.job.state == .running else { return [] }
            progress.job.state = state
            progress.job.error = error
            progress.endedAt = now
            defer { progress.watchers = [:] }
            return Array(progress.watchers.values)
        }
        for watcher in watchers { watcher.resume() }
    }

    func snapshot(now: Duration) -> Job {
        progress.withLock { progress in
            var job = progress.job
            job.seconds = ((progress.endedAt ?? now) - progress.startedAt).seconds
            return job
        }
    }

    /// Returns when the job has ended, or after `limit`.
    func ended(within limit: Duration) async {
        let watcher = progress.withLock { progress in
            progress.nextWatcher += 1
            return progress.nextWatcher
        }
        var timer: Task<Void, Never>?
        await withCheckedContinuation { continuation in
            let isOver = progress.withLock { progress in
                guard progress.job.state == .running else { return true }
                progress.watchers[watcher] = continuation
                return false
            }
            if isOver { return continuation.resume() }
            // Not before the watcher stands there: released too early, it would wait for the end.
            timer = Task { [weak self] in
                try? await Task.sleep(for: limit)
                self?.release(watcher)
            }
        }
        timer?.cancel()
    }

    private func release(_ watcher: UInt64) { progress.withLock { $0.watchers.removeValue(forKey: watcher) }?.resume() }
}
