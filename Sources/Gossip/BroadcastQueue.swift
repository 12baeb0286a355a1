internal import MeshKeys

/// What this machine still has to tell: the least told first, and among those the newest.
struct BroadcastQueue: Sendable {
    enum Subject: Hashable, Sendable {
        /// State of a member; the bytes are a whole message.
        case member(NodeID)
        /// Records of a node since a version; made when sent, so that what changed meanwhile goes along.
        case content(NodeID)
    }
    private struct Entry: Sendable {
        var message: [UInt8]
        var since: UInt64
        var generation: UInt64
    }
    private struct Ticket: Sendable {
        let subject: Subject
        let generation: UInt64
    }

    private var entries: [Subject: Entry] = [:]
    private var levels: [[Ticket]] = []
    private var generation: UInt64 = 0

    var isEmpty: Bool { entries.isEmpty }
    func contains(_ subject: Subject) -> Bool { entries[subject] != nil }

    /// Replaces what was to be told of the subject. Of content, changes since the older version stay included.
    mutating func put(_ subject: Subject, message: [UInt8] = [], since: UInt64 = 0) {
        generation += 1
        let since = min(since, entries[subject]?.since ?? since)
        entries[subject] = Entry(message: message, since: since, generation: generation)
        if levels.isEmpty { levels.append([]) }
        levels[0].append(Ticket(subject: subject, generation: generation))
    }

    mutating func remove(_ subject: Subject) { entries[subject] = nil }

    /// Fills up to `space` bytes; each message counts as told once, and is forgotten after `limit` times.
    /// - Parameter content: makes the message for a node's records since a version; `nil` when there is nothing to say any more.
    mutating func take(space: Int, limit: Int, content: (NodeID, UInt64) -> [UInt8]?) -> [UInt8] {
        var out: [UInt8] = []
        var told: [(Ticket, level: Int)] = []
        // So many that don't fit are looked at before the packet is taken to be full.
        var misfits = 0
        var level = 0
        while level < levels.count, misfits < 4 {
            var aside: [Ticket] = []
            while misfits < 4, let ticket = levels[level].popLast() {
                guard let entry = entries[ticket.subject], entry.generation == ticket.generation else { continue }
                var message = entry.message
                if case .content(let node) = ticket.subject {
                    guard let made = content(node, entry.since) else {
                        entries[ticket.subject] = nil
                        continue
                    }
                    message = made
                }
                if out.count + message.count > space {
                    aside.append(ticket)
                    misfits += 1
                    continue
                }
                out.append(contentsOf: message)
                told.append((ticket, level))
            }
            levels[level].append(contentsOf: aside.reversed())
            level += 1
        }
        for (ticket, level) in told {
            if level + 1 >= limit {
                entries[ticket.subject] = nil
                continue
            }
            while levels.count <= level + 1 { levels.append([]) }
            levels[level + 1].append(ticket)
        }
        if entries.isEmpty { levels = [] }
        return out
    }
}
