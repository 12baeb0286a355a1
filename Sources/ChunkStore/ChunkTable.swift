internal import ChunkModel

/// What the cache knows of its chunks, in memory: a hash table over slots, and the order of use in linked lists.
///
/// A slot stands for a chunk that is held, or pinned, or both; it keeps its number until it is neither, so that pins can be
/// lists of 4-byte numbers. With table and slot an entry costs about 70 bytes. The lists hold what may be evicted: held,
/// not pinned. All operations take constant time.
struct ChunkTable: Sendable {
    typealias Slot = UInt32
    static let none = Slot.max

    struct Flags: OptionSet, Sendable {
        let rawValue: UInt8
        /// The slot is in use (else it waits on the free list).
        static let taken = Flags(rawValue: 1)
        /// The chunk's file is held.
        static let held = Flags(rawValue: 2)
        /// Its row in the index file is to be written.
        static let dirty = Flags(rawValue: 4)
        /// The bytes on disk are known to be whole.
        static let verified = Flags(rawValue: 8)
        /// In the list of those that this node keeps for the site, which are evicted after all others.
        static let spared = Flags(rawValue: 16)
        /// In the list of last copies, which are evicted at the very end.
        static let last = Flags(rawValue: 32)
        /// Held, but no longer announced: it goes as soon as it is certain that others have it.
        static let leaving = Flags(rawValue: 64)
    }

    struct Entry: Sendable {
        let id: ChunkID
        fileprivate(set) var flags: Flags
        fileprivate(set) var pins: UInt32
        fileprivate(set) var size: UInt32
        /// Seconds since 1970.
        fileprivate(set) var lastUse: UInt32
        fileprivate var older: Slot
        fileprivate var newer: Slot

        var isHeld: Bool { flags.contains(.held) }
        var isVerified: Bool { flags.contains(.verified) }
        var isEvictable: Bool { isHeld && pins == 0 }
        /// Evictable, but not before all others.
        var isKeptForSite: Bool { isEvictable && list != .ordinary }
        var isLeaving: Bool { flags.contains(.leaving) }
        fileprivate var list: Place { flags.contains(.last) ? .last : flags.contains(.spared) ? .spared : .ordinary }
    }

    /// The lists, in the order in which they are evicted.
    enum Place: Int, Sendable { case ordinary, spared, last }

    private struct Ends: Sendable {
        var oldest = ChunkTable.none
        var newest = ChunkTable.none
    }

    private var entries: [Entry] = []
    /// A power of two of slots, `none` where empty; linear probing, at most 70 % full. Swift's hash is seeded for each
    /// process, so that nobody can craft chunks that meet in one place.
    private var buckets = [Slot](repeating: ChunkTable.none, count: 16)
    private var free: [Slot] = []
    private var ends = [Ends](repeating: Ends(), count: 3)

    private(set) var heldCount = 0
    private(set) var heldBytes: Int64 = 0
    private(set) var pinnedBytes: Int64 = 0
    private(set) var unverifiedCount = 0

    /// One more than the highest slot ever in use, for walks.
    var slotLimit: Int { entries.count }

    subscript(slot: Slot) -> Entry { entries[Int(slot)] }

    /// The entry in a slot that a walk came by; `nil` when it is free.
    func entry(at index: Int) -> Entry? {
        guard index < entries.count, entries[index].flags.contains(.taken) else { return nil }
        return entries[index]
    }

    func slot(of id: ChunkID) -> Slot? {
        let slot = buckets[bucket(of: id)]
        return slot == Self.none ? nil : slot
    }

    /// The slot of a chunk that is held.
    func heldSlot(of id: ChunkID) -> Slot? {
        slot(of: id).flatMap { entries[Int($0)].isHeld ? $0 : nil }
    }

    // MARK: holding

    /// Notes a chunk as held and most recently used; one that is held already gets the new size and state.
    @discardableResult
    mutating func hold(_ id: ChunkID, size: UInt32, lastUse: UInt32, verified: Bool) -> Slot {
        let slot = slotMaking(id)
        release(slot)
        entries[Int(slot)].size = size
        entries[Int(slot)].lastUse = lastUse
        entries[Int(slot)].flags.insert(.held)
        heldCount += 1
        heldBytes += Int64(size)
        if verified { entries[Int(slot)].flags.insert(.verified) } else { unverifiedCount += 1 }
        if entries[Int(slot)].pins > 0 { pinnedBytes += Int64(size) } else { link(slot) }
        return slot
    }

    /// Forgets that the chunk is held; its pins stay.
    ///
    /// - Returns: the entry as it was, `nil` when the chunk was not held.
    mutating func drop(_ id: ChunkID) -> Entry? {
        guard let slot = heldSlot(of: id) else { return nil }
        let entry = entries[Int(slot)]
        release(slot)
        freeIfIdle(slot)
        return entry
    }

    /// Makes the chunk the most recently used.
    mutating func touch(_ slot: Slot, now: UInt32) {
        entries[Int(slot)].lastUse = now
        guard entries[Int(slot)].isEvictable else { return }
        unlink(slot)
        link(slot)
    }

    mutating func setVerified(_ slot: Slot) {
        guard entries[Int(slot)].isHeld, !entries[Int(slot)].isVerified else { return }
        entries[Int(slot)].flags.insert(.verified)
        unverifiedCount -= 1
    }

    mutating func setDirty(_ slot: Slot, _ dirty: Bool) {
        if dirty { entries[Int(slot)].flags.insert(.dirty) } else { entries[Int(slot)].flags.remove(.dirty) }
    }

    mutating func setLastUse(_ slot: Slot, _ lastUse: UInt32) { entries[Int(slot)].lastUse = lastUse }

    /// Puts the lists into the order of `lastUse`; for the start, when entries come in any order.
    mutating func sortByLastUse() {
        let order = entries.indices.filter { entries[$0].isEvictable }
            .sorted { (entries[$0].lastUse, $0) < (entries[$1].lastUse, $1) }
        for index in order {
            unlink(Slot(index))
            link(Slot(index))
        }
    }

    /// Grows the hash table once for entries that are to come.
    mutating func reserve(more count: Int) { growBuckets(for: entries.count - free.count + count) }

    // MARK: eviction

    /// The least recently used evictable chunks, oldest first.
    func oldest(_ limit: Int, in place: Place) -> [ChunkID] {
        var out: [ChunkID] = []
        var slot = ends[place.rawValue].oldest
        while slot != Self.none, out.count < limit {
            out.append(entries[Int(slot)].id)
            slot = entries[Int(slot)].newer
        }
        return out
    }

    /// Moves an evictable chunk to the new end of another list; its next use moves it back.
    mutating func move(_ slot: Slot, to place: Place) {
        guard entries[Int(slot)].isEvictable, entries[Int(slot)].list != place else { return }
        unlink(slot)
        if place != .ordinary { entries[Int(slot)].flags.insert(place == .spared ? .spared : .last) }
        append(slot)
    }

    mutating func setLeaving(_ slot: Slot, _ leaving: Bool) {
        if leaving { entries[Int(slot)].flags.insert(.leaving) } else { entries[Int(slot)].flags.remove(.leaving) }
    }

    // MARK: pins

    /// Adds one pin; the chunk need not be held. Its number stays valid until the pin is taken back.
    mutating func pin(_ id: ChunkID) -> Slot {
        let slot = slotMaking(id)
        if entries[Int(slot)].pins == 0, entries[Int(slot)].isHeld {
            unlink(slot)
            pinnedBytes += Int64(entries[Int(slot)].size)
        }
        entries[Int(slot)].pins += 1
        return slot
    }

    /// Takes one pin back; a chunk without pins may be evicted, as the most recently used.
    mutating func unpin(_ slot: Slot) {
        guard entries[Int(slot)].pins > 0 else { return }
        entries[Int(slot)].pins -= 1
        guard entries[Int(slot)].pins == 0 else { return }
        if entries[Int(slot)].isHeld {
            pinnedBytes -= Int64(entries[Int(slot)].size)
            link(slot)
        }
        freeIfIdle(slot)
    }

    // MARK: slots and buckets

    private mutating func release(_ slot: Slot) {
        let entry = entries[Int(slot)]
        guard entry.isHeld else { return }
        heldCount -= 1
        heldBytes -= Int64(entry.size)
        if !entry.isVerified { unverifiedCount -= 1 }
        if entry.pins > 0 { pinnedBytes -= Int64(entry.size) } else { unlink(slot) }
        entries[Int(slot)].flags.subtract([.held, .verified, .dirty, .leaving])
    }

    private mutating func slotMaking(_ id: ChunkID) -> Slot {
        if let slot = slot(of: id) { return slot }
        growBuckets(for: entries.count - free.count + 1)
        let entry = Entry(id: id, flags: .taken, pins: 0, size: 0, lastUse: 0, older: Self.none, newer: Self.none)
        let slot: Slot
        if let reused = free.popLast() {
            slot = reused
            entries[Int(slot)] = entry
        } else {
            slot = Slot(entries.count)
            entries.append(entry)
        }
        buckets[bucket(of: id)] = slot
        return slot
    }

    private mutating func freeIfIdle(_ slot: Slot) {
        guard !entries[Int(slot)].isHeld, entries[Int(slot)].pins == 0 else { return }
        var hole = bucket(of: entries[Int(slot)].id)
        var next = (hole + 1) & (buckets.count - 1)
        // Close the gap: whoever was displaced over the hole moves into it.
        while buckets[next] != Self.none {
            let home = home(of: entries[Int(buckets[next])].id)
            if (next &- home) & (buckets.count - 1) >= (next &- hole) & (buckets.count - 1) {
                buckets[hole] = buckets[next]
                hole = next
            }
            next = (next + 1) & (buckets.count - 1)
        }
        buckets[hole] = Self.none
        entries[Int(slot)].flags = []
        free.append(slot)
    }

    private func home(of id: ChunkID) -> Int { id.hashValue & (buckets.count - 1) }

    /// Where the id stands, or the empty place where it would.
    private func bucket(of id: ChunkID) -> Int {
        var index = home(of: id)
        while buckets[index] != Self.none, entries[Int(buckets[index])].id != id { index = (index + 1) & (buckets.count - 1) }
        return index
    }

    private mutating func growBuckets(for count: Int) {
        var size = buckets.count
        while count * 10 > size * 7 { size *= 2 }
        guard size > buckets.count else { return }
        buckets = [Slot](repeating: Self.none, count: size)
        for index in entries.indices where entries[index].flags.contains(.taken) {
            buckets[bucket(of: entries[index].id)] = Slot(index)
        }
    }

    // MARK: lists

    /// Appends to the ordinary list as most recently used.
    private mutating func link(_ slot: Slot) {
        entries[Int(slot)].flags.subtract([.spared, .last])
        append(slot)
    }

    private mutating func append(_ slot: Slot) {
        let list = entries[Int(slot)].list.rawValue
        let newest = ends[list].newest
        entries[Int(slot)].older = newest
        entries[Int(slot)].newer = Self.none
        if newest == Self.none { ends[list].oldest = slot } else { entries[Int(newest)].newer = slot }
        ends[list].newest = slot
    }

    private mutating func unlink(_ slot: Slot) {
        let entry = entries[Int(slot)]
        let list = entry.list.rawValue
        if entry.older == Self.none { ends[list].oldest = entry.newer } else { entries[Int(entry.older)].newer = entry.newer }
        if entry.newer == Self.none { ends[list].newest = entry.older } else { entries[Int(entry.newer)].older = entry.older }
        entries[Int(slot)].flags.subtract([.spared, .last])
    }
}
