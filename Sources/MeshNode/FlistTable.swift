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

    private let entries = Mutex<[FlistDigest: Entry]>([:])

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

    /// The one to close when there are too many; `nil` while there is room, or when all are pinned.
    var surplus: FlistDigest? {
        entries.withLock { entries in
            guard entries.count >= Self.maxOpen else { return nil }
            return entries.values.filter { !$0.record.isPinned }.min { $0.usedAt < $1.usedAt }?.record.digest
        }
    }

    /// Name, digest, or the first eight or more digits of one. The flist that took a name last has it.
    func find(_ text: String) -> Entry? {
        entries.withLock { entries in
            if let named = entries.values.filter({ $0.record.name == text }).max(by: { $0.openedAt < $1.openedAt }) { return named }
            guard text.count >= 8, text.allSatisfy(\.isHexDigit) else { return nil }
            let matches = entries.values.filter { $0.record.digest.hex.hasPrefix(text.lowercased()) }
            return matches.count == 1 ? matches[0] : nil
        }
    }

    func find(url: String) -> Entry? { entries.withLock { $0.values.filter { $0.record.url == url }.max { $0.openedAt < $1.openedAt } } }

    /// In which flists the chunk stands, and where.
    func places(of chunk: ChunkID) -> [(digest: FlistDigest, index: Int)] {
        entries.withLock { entries in
            entries.values.compactMap { entry in entry.flist.index(of: chunk).map { (entry.record.digest, $0) } }
        }
    }

    /// Time since the flist was opened; `nil` when it is not open.
    func age(of digest: FlistDigest, now: Duration) -> Duration? { entries.withLock { $0[digest].map { now - $0.openedAt } } }
}
