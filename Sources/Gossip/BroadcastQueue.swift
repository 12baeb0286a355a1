internal import MeshKeys

/// What this machine still has to tell: members' states before contents, in each the least told first, and among those the newest.
struct BroadcastQueue: Sendable {
    enum Subject: Hashable, Sendable {
        /// State of a member; the bytes are a whole message.
        case member(NodeID)
        /// Records of a node since a version; made when sent, so that what changed meanwhile goes along.
        case content(NodeID)
    }
    /// What goes into one datagram.
    struct Load {
        /// Bytes that are free in it.
        let space: Int
        /// How often a member's state is told before it is forgotten, and how often content.
        let memberLimit: Int
        let contentLimit: Int
        /// Whether content may be told now.
        let takesContent: Bool
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
    /// Tickets by how often they were told.
    private struct Lane: Sendable {
        var levels: [[Ticket]] = []
        var count = 0

        mutating func put(_ ticket: Ticket, at level: Int) {
            while levels.count <= level { levels.append([]) }
            levels[level].append(ticket)
            count += 1
        }
    }

    private var entries: [Subject: Entry] = [:]
    private var members = Lane()
    private var contents = Lane()
    private var memberCount = 0
    private var generation: UInt64 = 0

    var isEmpty: Bool { entries.isEmpty }
    /// There are states of members to tell.
    var hasMembers: Bool { memberCount > 0 }
    func contains(_ subject: Subject) -> Bool { entries[subject] != nil }

    /// Replaces what was to be told of the subject. Of content, changes since the older version stay included.
    mutating func put(_ subject: Subject, message: [UInt8] = [], since: UInt64 = 0) {
        generation += 1
        let since = min(since, entries[subject]?.since ?? since)
        let entry = Entry(message: message, since: since, generation: generation)
        let ticket = Ticket(subject: subject, generation: generation)
        let isNew = entries.updateValue(entry, forKey: subject) == nil
        switch subject {
        case .member:
            if isNew { memberCount += 1 }
            members.put(ticket, at: 0)
            Self.tidy(&members, entries)
        case .content:
            contents.put(ticket, at: 0)
            Self.tidy(&contents, entries)
        }
    }

    /// Tickets of entries that were replaced are dropped when they are come to; where there is no time to come to them, here.
    private static func tidy(_ lane: inout Lane, _ entries: [Subject: Entry]) {
        guard lane.count > 4 * entries.count + 64 else { return }
        for level in lane.levels.indices {
            lane.levels[level].removeAll { entries[$0.subject]?.generation != $0.generation }
        }
        lane.count = lane.levels.reduce(0) { $0 + $1.count }
    }

    mutating func remove(_ subject: Subject) {
        guard entries.removeValue(forKey: subject) != nil, case .member = subject else { return }
        memberCount -= 1
    }

    /// Fills up to `load.space` bytes; each message counts as told once, and is forgotten after its limit.
    /// - Parameter content: makes the message for a node's records since a version; `nil` when there is nothing to say any more.
    /// - Returns: the messages, and how many bytes of them are content.
    mutating func take(_ load: Load, content: (NodeID, UInt64) -> [UInt8]?) -> (bytes: [UInt8], ofContent: Int) {
        var out: [UInt8] = []
        if memberCount > 0 {
            var lane = Lane()
            swap(&lane, &members)
            take(&lane, into: &out, space: load.space, limit: load.memberLimit, content)
            swap(&lane, &members)
        }
        let ofMembers = out.count
        if load.takesContent, entries.count > memberCount {
            var lane = Lane()
            swap(&lane, &contents)
            take(&lane, into: &out, space: load.space, limit: load.contentLimit, content)
            swap(&lane, &contents)
        }
        if entries.isEmpty { (members, contents) = (Lane(), Lane()) }
        return (out, out.count - ofMembers)
    }

    private mutating func take(
        _ lane: inout Lane, into out: inout [UInt8], space: Int, limit: Int, _ content: (NodeID, UInt64) -> [UInt8]?
    ) {
        var told: [(Ticket, level: Int)] = []
        // So many that don't fit are looked at before the packet is taken to be full.
        var misfits = 0
        var level = 0
        while level < lane.levels.count, misfits < 4 {
            var aside: [Ticket] = []
            while misfits < 4, let ticket = lane.levels[level].popLast() {
                lane.count -= 1
                guard let entry = entries[ticket.subject], entry.generation == ticket.generation else { continue }
                var message = entry.message
                if case .content(let node) = ticket.subject {
                    guard let made = content(node, entry.since) else {
                        remove(ticket.subject)
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
            lane.levels[level].append(contentsOf: aside.reversed())
            lane.count += aside.count
            level += 1
        }
        for (ticket, level) in told {
            if level + 1 >= limit { remove(ticket.subject) } else { lane.put(ticket, at: level + 1) }
        }
    }
}
