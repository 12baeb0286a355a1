internal import ChunkModel
internal import Synchronization

/// Puts chunks that were found elsewhere into the stores that an flist names as caches (`cache` of router.yaml, FORMATS.md §2.5).
///
/// In the background and for nothing: no reader waits for it, and what fails is not tried again.
public final class CacheWriter: Sendable {
    /// Chunks on their way into caches at one time, each with its memory; further ones are dropped and counted.
    public static let maxInFlight = 8
    /// Stores whose failure was told; beyond that all are forgotten, and told once more.
    static let maxTold = 256

    private struct State {
        var active = 0
        var told: Set<String> = []
    }

    private let counters: UpstreamCounters
    private let tell: @Sendable (String) -> Void
    private let state = Mutex(State())

    /// - Parameter tell: gets one line when a store takes no chunks, once for each store until it takes one again.
    init(counters: UpstreamCounters, tell: @escaping @Sendable (String) -> Void) { (self.counters, self.tell) = (counters, tell) }

    /// Returns at once.
    ///
    /// - Parameters:
    ///   - url: of the store.
    ///   - open: called in the background.
    func offer(_ chunk: Chunk, to url: String, open: @escaping @Sendable (String) throws(UpstreamError) -> any ChunkSink) {
        let isAdmitted = state.withLock { state in
            guard state.active < Self.maxInFlight else { return false }
            state.active += 1
            return true
        }
        guard isAdmitted else { return counters.add { $0.cacheDropped += 1 } }
        Task(priority: .utility) {
            do {
                let sink = try open(url)
                if try await !sink.contains(chunk.id) { try await sink.store(chunk) }
                end(url, failure: nil)
            } catch {
                end(url, failure: "\(error)")
            }
        }
    }

    /// Chunks on their way.
    var active: Int { state.withLock { $0.active } }

    private func end(_ url: String, failure: String?) {
        let isNews = state.withLock { state in
            state.active -= 1
            guard failure != nil else {
                state.told.remove(url)
                return false
            }
            if state.told.count >= Self.maxTold { state.told = [] }
            return state.told.insert(url).inserted
        }
        if let failure, isNews { tell(failure) }
    }
}
