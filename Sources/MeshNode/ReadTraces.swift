internal import BlockCodec
internal import ChunkModel
internal import ControlModel
internal import Synchronization

/// Records which chunks of an flist are read, for as long as somebody wants to know.
///
/// `note` stands on the way of every read: without a trace it costs one load.
final class ReadTraces: Sendable {
    /// Traces that a node keeps, ended ones included; a further one is refused while all of them run.
    static let maxTraces = 8
    /// A trace that nobody has asked about for so long ends: who began it has gone.
    static let patience: Duration = .seconds(60)
    private static let abandoned = "nobody asked about it for \(patience.components.seconds) seconds"
    /// Entries in one answer.
    static let pageEntries = 4096

    private struct Recording {
        let name: String
        let flist: OpenFlist
        let startedAt: Duration
        var askedAt: Duration
        var endedAt: Duration?
        var ended: String?
        /// Index and milliseconds since the start.
        var entries: [(index: Int32, milliseconds: UInt32)] = []
        /// A bit for each chunk of the flist.
        var seen: [UInt64]

        init(_ entry: FlistTable.Entry, now: Duration) {
            (name, flist, startedAt, askedAt) = (entry.record.name, entry.flist, now, now)
            seen = Array(repeating: 0, count: entry.flist.chunks.count / 64 + 1)
        }

        mutating func note(_ chunk: ChunkID, of digest: FlistDigest, now: Duration) {
            guard ended == nil, flist.digest == digest else { return }
            guard now - askedAt <= ReadTraces.patience else { return end(ReadTraces.abandoned, now: now) }
            guard let index = flist.index(of: chunk), seen[index / 64] & 1 << (index % 64) == 0 else { return }
            seen[index / 64] |= 1 << (index % 64)
            entries.append((Int32(clamping: index), UInt32(clamping: Int64(((now - startedAt).seconds * 1000).rounded()))))
            if entries.count >= ReadProfile.maxEntries {
                end("\(ReadProfile.maxEntries) chunks were read, which is as many as a profile holds", now: now)
            }
        }

        mutating func end(_ reason: String, now: Duration) {
            guard ended == nil else { return }
            (ended, endedAt) = (reason, now)
        }
    }

    private let now: @Sendable () -> Duration
    private let running = Atomic(0)
    private let state = Mutex<[String: Recording]>([:])

    /// - Parameter now: a clock that only goes forward.
    init(now: @escaping @Sendable () -> Duration) { self.now = now }

    /// Whether anything is recorded: what is costly to note need not be found out otherwise.
    var isRunning: Bool { running.load(ordering: .relaxed) > 0 }

    /// Bytes of a file are read: of its blocks those in which they lie, where all are cut evenly.
    func note(_ range: Range<UInt64>, in blocks: [BlockRef], of flist: FlistDigest) {
        guard isRunning, !range.isEmpty else { return }
        let block = UInt64(ChunkLimits.blockBytes)
        let last = min(Int(clamping: (range.upperBound - 1) / block) + 1, blocks.count)
        for index in min(Int(clamping: range.lowerBound / block), last)..<last { note(blocks[index].id, of: flist) }
    }

    /// A block of the flist is read: first time or not, from the memory or not.
    func note(_ chunk: ChunkID, of flist: FlistDigest) {
        guard isRunning else { return }
        let now = now()
        state.withLock { traces in
            // In place: copies of the entries would cost more than all else.
            for id in Array(traces.keys) { traces[id]!.note(chunk, of: flist, now: now) }
            count(traces)
        }
    }

    func start(_ entry: FlistTable.Entry, id: String) throws(NodeError) -> Trace {
        let now = now()
        let trace = state.withLock { traces -> Trace? in
            drop(&traces, now: now)
            if traces.count >= Self.maxTraces {
                guard let old = traces.filter({ $0.value.ended != nil }).min(by: { $0.value.askedAt < $1.value.askedAt }) else {
                    return nil
                }
                traces[old.key] = nil
            }
            traces[id] = Recording(entry, now: now)
            count(traces)
            return shown(id, traces[id]!, after: 0, now: now)
        }
        guard let trace else { throw .unavailable("\(Self.maxTraces) traces run already; end one or wait") }
        return trace
    }

    /// - Returns: `nil` when there is none with this id.
    func look(_ id: String, after: Int) -> Trace? {
        let now = now()
        return state.withLock { traces in
            guard traces[id] != nil else { return nil }
            if now - traces[id]!.askedAt > Self.patience { traces[id]!.end(Self.abandoned, now: now) }
            traces[id]!.askedAt = now
            count(traces)
            return shown(id, traces[id]!, after: after, now: now)
        }
    }

    /// Ends it. It is kept until all that it recorded was asked for, or the time for that is over.
    func end(_ id: String, after: Int) -> Trace? {
        let now = now()
        return state.withLock { traces in
            guard traces[id] != nil else { return nil }
            traces[id]!.end("stopped", now: now)
            traces[id]!.askedAt = now
            let trace = shown(id, traces[id]!, after: after, now: now)
            if trace.next >= trace.recorded { traces[id] = nil }
            count(traces)
            return trace
        }
    }

    /// The flist is not known any more.
    func end(of flist: FlistDigest) {
        let now = now()
        state.withLock { traces in
            for id in Array(traces.keys) where traces[id]!.flist.digest == flist {
                traces[id]!.end("the flist was forgotten", now: now)
            }
            count(traces)
        }
    }

    var all: [Trace] {
        let now = now()
        return state.withLock { traces in
            drop(&traces, now: now)
            count(traces)
            return traces.map { shown($0.key, $0.value, after: .max, now: now) }.sorted { ($0.seconds, $0.id) > ($1.seconds, $1.id) }
        }
    }

    /// Those that nobody asks about: first they end, then they go.
    private func drop(_ traces: inout [String: Recording], now: Duration) {
        for (id, recording) in traces where now - recording.askedAt > Self.patience { traces[id] = nil }
    }

    private func count(_ traces: [String: Recording]) {
        running.store(traces.values.count { $0.ended == nil }, ordering: .relaxed)
    }

    private func shown(_ id: String, _ recording: Recording, after: Int, now: Duration) -> Trace {
        let first = min(max(after, 0), recording.entries.count)
        let last = min(first + Self.pageEntries, recording.entries.count)
        return Trace(
            id: id, flist: recording.name, digest: recording.flist.digest.hex, chunks: recording.flist.chunks.count,
            recorded: recording.entries.count, seconds: ((recording.endedAt ?? now) - recording.startedAt).seconds, ended: recording.ended,
            entries: recording.entries[first..<last].map { entry in
                Trace.Entry(
                    index: Int(entry.index), chunk: recording.flist.chunks[Int(entry.index)].hex, seconds: Double(entry.milliseconds) / 1000
                )
            }, next: last)
    }
}
