internal import ChunkModel

/// Which stores sent wrong bytes for which chunks lately: they are not asked for them again at once, or a hub with one bad file would
/// have the line carry it for as long as somebody wants it. A value without a clock.
struct WrongBytes: Sendable {
    /// How long a store is not asked for a chunk that it sent wrong; twice as long after each further time …
    static let firstPause: Duration = .seconds(20)
    /// … up to this.
    static let longestPause: Duration = .seconds(600)
    /// Remembered; beyond it the one whose pause ends first makes room.
    static let maxEntries = 1_024

    private struct Key: Hashable {
        let store: Int
        let chunk: ChunkID
    }
    private struct Entry {
        var until: ContinuousClock.Instant
        var pause: Duration
    }
    private var entries: [Key: Entry] = [:]

    /// How long the store is still not to be asked; `nil` when it may be.
    func pause(_ store: Int, _ chunk: ChunkID, now: ContinuousClock.Instant) -> Duration? {
        guard let entry = entries[Key(store: store, chunk: chunk)], now < entry.until else { return nil }
        return entry.until - now
    }

    mutating func noteWrong(_ store: Int, _ chunk: ChunkID, now: ContinuousClock.Instant) {
        let key = Key(store: store, chunk: chunk)
        if entries[key] == nil, entries.count >= Self.maxEntries, let first = entries.min(by: { $0.value.until < $1.value.until })?.key {
            entries[first] = nil
        }
        let pause = min(entries[key].map { $0.pause * 2 } ?? Self.firstPause, Self.longestPause)
        entries[key] = Entry(until: now + pause, pause: pause)
    }

    mutating func noteRight(_ store: Int, _ chunk: ChunkID) { entries[Key(store: store, chunk: chunk)] = nil }
}
