internal import ChunkModel

/// Wants in line, most urgent and oldest first; taking one costs the same however many stand there.
///
/// A want that leaves is not searched for: its ticket is no longer the one that the entry carries, and the entry is skipped when
/// its turn comes, or swept out by `compact`.
struct Line: Sendable {
    struct Entry: Sendable {
        let id: ChunkID
        let ticket: UInt64
    }

    private struct Queue: Sendable {
        var entries: [Entry] = []
        var head = 0
        var isEmpty: Bool { head == entries.count }

        mutating func removeFirst() -> Entry {
            let first = entries[head]
            head += 1
            // Each entry is moved at most once for one that was taken.
            if head > 32, head * 2 > entries.count {
                entries.removeFirst(head)
                head = 0
            }
            return first
        }
    }

    private var background = Queue()
    private var readAhead = Queue()
    private var foreground = Queue()

    var isEmpty: Bool { background.isEmpty && readAhead.isEmpty && foreground.isEmpty }
    /// Entries, those that are no longer valid included.
    var count: Int {
        background.entries.count - background.head + readAhead.entries.count - readAhead.head + foreground.entries.count - foreground.head
    }

    mutating func append(_ id: ChunkID, ticket: UInt64, priority: FetchPriority) {
        let entry = Entry(id: id, ticket: ticket)
        switch priority {
        case .prefetch: background.entries.append(entry)
        case .readAhead: readAhead.entries.append(entry)
        case .foreground: foreground.entries.append(entry)
        }
    }

    /// The priority of the entry that `popFirst` would return.
    var firstPriority: FetchPriority? {
        if !foreground.isEmpty { return .foreground }
        if !readAhead.isEmpty { return .readAhead }
        return background.isEmpty ? nil : .prefetch
    }

    @discardableResult
    mutating func popFirst() -> Entry? {
        switch firstPriority {
        case .foreground: foreground.removeFirst()
        case .readAhead: readAhead.removeFirst()
        case .prefetch: background.removeFirst()
        case nil: nil
        }
    }

    /// The entry that `popFirst` would return.
    var first: Entry? {
        switch firstPriority {
        case .foreground: foreground.entries[foreground.head]
        case .readAhead: readAhead.entries[readAhead.head]
        case .prefetch: background.entries[background.head]
        case nil: nil
        }
    }

    /// Keeps only the entries for which `isValid` holds.
    mutating func compact(_ isValid: (Entry) -> Bool) {
        background = Queue(entries: background.entries[background.head...].filter(isValid))
        readAhead = Queue(entries: readAhead.entries[readAhead.head...].filter(isValid))
        foreground = Queue(entries: foreground.entries[foreground.head...].filter(isValid))
    }
}
