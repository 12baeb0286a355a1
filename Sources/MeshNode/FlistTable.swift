internal import ChunkModel
internal import Synchronization

/// The flists that are open on this node. Look-ups take a lock and no time: they stand on the way of every chunk.
final class FlistTable: Sendable {
    /// Flists that a node announces (and the mesh carries) at most; opening another one closes the one used longest ago that is
    /// not pinned.
    static let maxOpen = 64

    struct Entry: Sendable {
        let flist: OpenFlist
        var record: FlistRecord
        let openedAt: Duration
        var usedAt: Duration
    }

    /// Of those, the ones that came only by other nodes' prefetches: they never displace what users of this node opened.
    static let maxForeign = 32

    private let entries = Mutex<[FlistDigest: Entry]>([:])
    private let openings = Atomic(0)
    /// Jobs of this node that are after an flist's chunks.
    private struct Seeking {
        var forAll = 0
        var forSome = 0
        var since: Duration
    }
    private let seeking = Mutex<[FlistDigest: Seeking]>([:])

    /// Whether any flist is being made known at this moment.
    var isOpening: Bool { openings.load(ordering: .relaxed) > 0 }
    func noteOpening(_ isBegun: Bool) {
        if isBegun { openings.add(1, ordering: .relaxed) } else { openings.subtract(1, ordering: .relaxed) }
    }

    /// Number and bytes of the flist files that nobody at this node asked for.
    var foreign: (count: Int, bytes: Int64) {
        entries.withLock { entries in
            entries.values.filter { !$0.record.isVouched }.reduce((0, 0)) { ($0.0 + 1, $0.1 + $1.flist.fileBytes) }
        }
    }

    var all: [Entry] { entries.withLock { $0.values.sorted { ($0.record.name, $0.record.digest) < ($1.record.name, $1.record.digest) } } }

    func entry(_ digest: FlistDigest) -> Entry? { entries.withLock { $0[digest] } }

    func insert(_ flist: OpenFlist, record: FlistRecord, now: Duration) {
        entries.withLock { $0[record.digest] = Entry(flist: flist, record: record, openedAt: now, usedAt: now) }
    }

    func update(_ digest: FlistDigest, _ change: (inout FlistRecord) -> Void) -> FlistRecord? {
        entries.withLock { entries in
            guard entries[digest] != nil else { return nil }
            change(&entries[digest]!.record)
            return entries[digest]!.record
        }
    }

    func touch(_ digest: FlistDigest, now: Duration) { entries.withLock { $0[digest]?.usedAt = now } }

    func remove(_ digest: FlistDigest) -> Entry? { entries.withLock { $0.removeValue(forKey: digest) } }

    /// The one to close before another is opened; `nil` while there is room, or when none may be closed.
    func surplus(isForeign: Bool) -> FlistDigest? {
        entries.withLock { entries in
            let foreign = entries.values.filter { !$0.record.isVouched }
            if isForeign {
                guard foreign.count >= Self.maxForeign || entries.count >= Self.maxOpen else { return nil }
                return foreign.min { $0.usedAt < $1.usedAt }?.record.digest
            }
            guard entries.count >= Self.maxOpen else { return nil }
            return entries.values.filter { !$0.record.isPinned }.min { $0.usedAt < $1.usedAt }?.record.digest
        }
    }

    /// Digest, name, or the first eight or more digits of a digest. The flist that took a name last has it; but a name that only a
    /// peer gave comes after all else, so that nobody can slip another flist under a name that is used here.
    func find(_ text: String) -> Entry? {
        entries.withLock { entries in
            if let digest = FlistDigest(hex: text.lowercased()), let entry = entries[digest] { return entry }
            let named = entries.values.filter { $0.record.name == text }
            func latest(_ isVouched: Bool) -> Entry? {
                named.filter { $0.record.isVouched == isVouched }.max { $0.openedAt < $1.openedAt }
            }
            if let entry = latest(true) { return entry }
            if text.count >= 8, text.allSatisfy(\.isHexDigit) {
                let matches = entries.values.filter { $0.record.digest.hex.hasPrefix(text.lowercased()) }
                if matches.count == 1 { return matches[0] }
            }
            return latest(false)
        }
    }

    func find(url: String) -> Entry? { entries.withLock { $0.values.filter { $0.record.url == url }.max { $0.openedAt < $1.openedAt } } }

    /// The one that a user here opened last by the URL that the key stands for.
    func find(urlKey key: UInt64) -> Entry? {
        all.filter { entry in entry.record.url.map { FlistOpener.key(ofURL: $0) == key } ?? false }.max { $0.openedAt < $1.openedAt }
    }

    /// Whether a job of this node gets every chunk of the flist.
    func isSeekingAll(of digest: FlistDigest) -> Bool { seeking.withLock { ($0[digest]?.forAll ?? 0) > 0 } }

    /// For how long a job of this node has been after the flist's chunks; `nil` when none is.
    func seekingAge(of digest: FlistDigest, now: Duration) -> Duration? { seeking.withLock { $0[digest].map { now - $0.since } } }

    /// A job that gets all chunks of the flist for this node, or some, begins or ends.
    /// - Returns: whether it is the first to begin, or the last to end.
    func noteSeeking(_ digest: FlistDigest, all: Bool, _ begins: Bool, now: Duration) -> Bool {
        seeking.withLock { seeking in
            var jobs = seeking[digest] ?? Seeking(since: now)
            let wasNone = jobs.forAll + jobs.forSome == 0
            if all { jobs.forAll += begins ? 1 : -1 } else { jobs.forSome += begins ? 1 : -1 }
            let isNone = jobs.forAll + jobs.forSome == 0
            seeking[digest] = isNone ? nil : jobs
            return wasNone != isNone
        }
    }

    /// In which flists the chunk stands, and where.
    func places(of chunk: ChunkID) -> [(digest: FlistDigest, index: Int)] {
        entries.withLock { entries in
            entries.values.compactMap { entry in entry.flist.index(of: chunk).map { (entry.record.digest, $0) } }
        }
    }

    /// Time since the flist was opened; `nil` when it is not open.
    func age(of digest: FlistDigest, now: Duration) -> Duration? { entries.withLock { $0[digest].map { now - $0.openedAt } } }
}
