public import ChunkModel
public import MeshKeys

/// This node's own changes that were not yet given a version. Several to the same thing become one.
struct PendingChanges: Sendable {
    var facts: Set<FactKey> = []
    var withdrawn: [UInt64] = []
    var published: [UInt64] = []
    /// Chunks whose bit may have changed, by slot. `nil` means all.
    var haves: [UInt64: Set<Int>?] = [:]
    var claims: [UInt64: Set<Int>] = [:]
    var nextSlot: UInt64 = 1

    var isEmpty: Bool { facts.isEmpty && withdrawn.isEmpty && published.isEmpty && haves.isEmpty && claims.isEmpty }
}

extension GossipMachine {
    // MARK: What this node publishes

    /// Tells all members `value` under `key`; the last value wins.
    /// - Returns: false, and nothing happens, beyond `GossipLimits.factsPerNode` or `factValueBytes`.
    @discardableResult
    public mutating func setFact(_ key: FactKey, _ value: [UInt8]) -> Bool {
        guard value.count <= GossipLimits.factValueBytes, let facts = contents.nodes[me.id]?.facts,
            facts[key] != nil || facts.count < GossipLimits.factsPerNode
        else { return false }
        if facts[key] == value { return true }
        _ = contents.withNode(me.id) { $0.facts[key] = value }
        pending.facts.insert(key)
        return true
    }

    public mutating func removeFact(_ key: FactKey) {
        if contents.withNode(me.id, { $0.facts.removeValue(forKey: key) }) != nil { pending.facts.insert(key) }
    }

    /// Tells that this node keeps chunks of an flist; at first it has none of them.
    /// - Returns: false when the flist is published with another count, or beyond `GossipLimits.flistsPerNode` or `chunksPerNode`.
    @discardableResult
    public mutating func publishFlist(_ flist: FlistDigest, chunkCount: Int) -> Bool {
        if let own = contents.holder(me.id, flist) { return own.bitmap.count == chunkCount }
        guard chunkCount >= 0 else { return false }
        var touched = ContentTable.Touched()
        let slot = pending.nextSlot
        guard contents.publish(flist, count: chunkCount, slot: slot, of: me.id, isLive: true, touched: &touched) else { return false }
        pending.nextSlot += 1
        pending.published.append(slot)
        return true
    }

    public mutating func withdrawFlist(_ flist: FlistDigest) {
        guard let slot = contents.holder(me.id, flist)?.slot else { return }
        contents.withdraw(slot: slot, of: me.id)
        pending.haves[slot] = nil
        pending.claims[slot] = nil
        if let place = pending.published.firstIndex(of: slot) {
            // Nobody heard of it, or only in whole records, which a withdrawal ends too.
            pending.published.remove(at: place)
        }
        pending.withdrawn.append(slot)
    }

    /// This node now holds these chunks; claims to be fetching them end. Without effect for an flist that is not published.
    public mutating func setHave(_ flist: FlistDigest, _ indices: some Sequence<Int>) { change(flist, indices, to: true) }

    /// This node holds all chunks of the flist.
    public mutating func setHaveAll(_ flist: FlistDigest) {
        let slot = contents.withHolder(me.id, flist) { holder -> UInt64 in
            holder.bitmap.set(0..<holder.bitmap.count)
            holder.claims = [:]
            return holder.slot
        }
        guard let slot else { return }
        pending.haves[slot] = .some(nil)
        pending.claims[slot] = nil
    }

    /// This node no longer holds these chunks.
    public mutating func clearHave(_ flist: FlistDigest, _ indices: some Sequence<Int>) { change(flist, indices, to: false) }

    private mutating func change(_ flist: FlistDigest, _ indices: some Sequence<Int>, to value: Bool) {
        guard let slot = contents.holder(me.id, flist)?.slot else { return }
        var changed: Set<Int> = []
        contents.withHolder(me.id, flist) { holder in
            for index in indices where holder.bitmap.set(index, to: value) {
                changed.insert(index)
                holder.claims[index] = nil
            }
        }
        if changed.isEmpty { return }
        pending.claims[slot]?.subtract(changed)
        switch pending.haves[slot] {
        case .some(.none): break
        case .some(.some(let before)):
            let all = before.union(changed)
            pending.haves[slot] = all.count > GossipLimits.pendingChunks ? .some(nil) : .some(all)
        case .none: pending.haves[slot] = changed.count > GossipLimits.pendingChunks ? .some(nil) : .some(changed)
        }
    }

    /// Announces that this node is fetching the chunk from upstream. Lapses after `GossipConfiguration.claimTimeout` unless claimed
    /// again, and ends when the node has the chunk.
    /// - Returns: false when the flist is not published, has no such chunk, or too many claims are open.
    @discardableResult
    public mutating func claim(_ flist: FlistDigest, _ index: Int, now: UInt64) -> Bool {
        let expiry = now &+ configuration.claimTimeout
        let slot = contents.withHolder(me.id, flist) { holder -> UInt64? in
            guard index >= 0, index < holder.bitmap.count else { return nil }
            if holder.claims.count >= GossipLimits.claimsPerNode { holder.claims = holder.claims.filter { $0.value > now } }
            guard holder.claims.count < GossipLimits.claimsPerNode || holder.claims[index] != nil else { return nil }
            holder.claims[index] = expiry
            return holder.slot
        }
        guard let slot = slot ?? nil else { return false }
        pending.claims[slot, default: []].insert(index)
        return true
    }

    /// Takes a claim back, when the fetch failed.
    public mutating func release(_ flist: FlistDigest, _ index: Int) {
        let slot = contents.withHolder(me.id, flist) { $0.claims.removeValue(forKey: index) == nil ? nil : $0.slot }
        if let slot = slot ?? nil { pending.claims[slot, default: []].insert(index) }
    }

    // MARK: Giving changes a version

    mutating func flushPending(_ now: UInt64) {
        if pending.isEmpty { return }
        let before = contents.nodes[me.id]?.version ?? 0
        var parts = pendingChanges(now)
        pending = PendingChanges(nextSlot: pending.nextSlot)
        parts.removeAll { $0.isEmpty }
        if parts.isEmpty { return }
        let tooMany = parts.reduce(0) { $0 + $1.count } > GossipLimits.flushBytes
        _ = contents.withNode(me.id) { node in
            for part in parts {
                node.version += 1
                if !tooMany { node.append(ChangeSegment(from: node.version - 1, to: node.version, changes: part)) }
            }
            // Others ask for the whole then.
            if tooMany { node.clearLog() }
        }
        queue.put(.content(me.id), since: before)
    }

    /// The pending changes as final states, in parts that fit a delta.
    private func pendingChanges(_ now: UInt64) -> [[UInt8]] {
        var parts: [[UInt8]] = []
        var writer = WireWriter()
        func cut(_ limit: Int = GossipLimits.segmentBytes) {
            if writer.count < limit { return }
            parts.append(writer.bytes)
            writer = WireWriter()
        }
        for slot in pending.withdrawn {
            writer.byte(ChangeCode.withdraw)
            writer.number(slot)
            cut()
        }
        let content = contents.nodes[me.id]
        for slot in pending.published {
            guard let digest = content?.slots[slot], let holder = contents.holder(me.id, digest) else { continue }
            writer.publish(slot: slot, digest, count: holder.bitmap.count)
            cut()
        }
        for key in pending.facts.sorted() {
            writer.setFact(key, content?.facts[key])
            cut()
        }
        for (slot, changed) in pending.haves.sorted(by: { $0.key < $1.key }) {
            guard let digest = content?.slots[slot], let bitmap = contents.holder(me.id, digest)?.bitmap else { continue }
            if bitmap.isComplete || bitmap.isEmpty {
                writer.byte(bitmap.isComplete ? ChangeCode.setAll : ChangeCode.clearAll)
                writer.number(slot)
            } else if let changed {
                for value in [true, false] {
                    let indices = changed.filter { bitmap.contains($0) == value }.sorted()
                    for change in Self.changes(indices, slot, value ? ChangeCode.setRuns : ChangeCode.clearRuns) {
                        writer.raw(change)
                        cut()
                    }
                }
            } else {
                writer.byte(ChangeCode.bitmap)
                writer.number(slot)
                bitmap.encode(to: &writer)
            }
            cut()
        }
        for (slot, indices) in pending.claims.sorted(by: { $0.key < $1.key }) {
            guard let digest = content?.slots[slot], let holder = contents.holder(me.id, digest) else { continue }
            for index in indices.sorted() {
                writer.byte(holder.claims[index] == nil ? ChangeCode.release : ChangeCode.claim)
                writer.number(slot)
                writer.number(index)
                cut()
            }
        }
        cut(1)
        return parts
    }

    /// Sorted indices as runs, a hundred to a change.
    private static func changes(_ indices: [Int], _ slot: UInt64, _ code: UInt8) -> [[UInt8]] {
        var out: [[UInt8]] = []
        var runs: [Range<Int>] = []
        for index in indices {
            if let last = runs.last, last.upperBound == index {
                runs[runs.count - 1] = last.lowerBound..<(index + 1)
            } else {
                runs.append(index..<(index + 1))
            }
        }
        for first in stride(from: 0, to: runs.count, by: 100) {
            let some = runs[first..<min(first + 100, runs.count)]
            var writer = WireWriter()
            writer.byte(code)
            writer.number(slot)
            writer.number(some.count)
            var end = 0
            for run in some {
                writer.number(run.lowerBound - end)
                writer.number(run.count)
                end = run.upperBound
            }
            out.append(writer.bytes)
        }
        return out
    }

    // MARK: What others publish

    /// All facts of a live node, or of this one; empty for any other.
    public func facts(of node: NodeID) -> [FactKey: [UInt8]] {
        node == me.id || members[node]?.state.isLive == true ? contents.nodes[node]?.facts ?? [:] : [:]
    }

    /// Live nodes, this one included, that publish a fact under `key`, with its value.
    public func nodes(withFact key: FactKey) -> [(node: NodeID, value: [UInt8])] {
        ([me.id] + roster).compactMap { id in contents.nodes[id]?.facts[key].map { (id, $0) } }
    }

    /// Flists that a live node, or this one, publishes.
    public func flists(of node: NodeID) -> [FlistDigest] {
        node == me.id || members[node]?.state.isLive == true ? contents.nodes[node].map { Array($0.slots.values) } ?? [] : []
    }

    /// Live nodes that publish the flist, this one included.
    public func publishers(of flist: FlistDigest) -> [NodeID] { (contents.holders[flist] ?? []).filter(\.isLive).map(\.node) }

    /// Live other nodes that say they hold the chunk. Cost grows with the flist's publishers only.
    public func holders(of flist: FlistDigest, _ index: Int) -> [NodeID] {
        var out: [NodeID] = []
        for holder in contents.holders[flist] ?? [] where holder.isLive && holder.node != me.id && holder.holds(index) {
            out.append(holder.node)
        }
        return out
    }

    /// What a node says that it holds; `nil` when it does not publish the flist.
    public func bitmap(of node: NodeID, _ flist: FlistDigest) -> Bitmap? { contents.holder(node, flist)?.bitmap }

    /// For each chunk of the flist, how many live nodes hold it, this one included; `nil` when nobody publishes the flist. Nodes that
    /// give the flist another number of chunks than this node (or, if it doesn't publish it, than the first) are left out.
    public func copies(of flist: FlistDigest) -> [UInt16]? {
        let live = (contents.holders[flist] ?? []).filter(\.isLive)
        guard let count = (live.first { $0.node == me.id } ?? live.first)?.bitmap.count else { return nil }
        var counts = [UInt16](repeating: 0, count: count)
        for holder in live {
            holder.bitmap.add(to: &counts)
            for index in holder.dropped where index < count && holder.bitmap.contains(index) && counts[index] > 0 { counts[index] -= 1 }
        }
        return counts
    }

    /// The node holds every chunk, as far as it is known here.
    public func isComplete(_ node: NodeID, _ flist: FlistDigest) -> Bool {
        contents.holder(node, flist).map { $0.isLive && $0.bitmap.isComplete && $0.dropped.isEmpty } ?? false
    }

    /// The live node that announced that it is fetching the chunk; of several the one with the least id, this one included.
    public func claimant(of flist: FlistDigest, _ index: Int, now: UInt64) -> NodeID? {
        var best: NodeID?
        for holder in contents.holders[flist] ?? [] where holder.isLive {
            if let expiry = holder.claims[index], expiry > now, best.map({ holder.node < $0 }) ?? true { best = holder.node }
        }
        return best
    }

    /// The node said that it holds the chunk, and it did not: it counts as missing there until the node announces it anew.
    /// Of a gateway of another site: the site does not have it.
    public mutating func dropClaimedHave(_ node: NodeID, _ flist: FlistDigest, _ index: Int) {
        if members[node] == nil { return dropSiteHave(node, flist, index) }
        contents.withHolder(node, flist) { holder in
            guard holder.bitmap.contains(index), node != me.id else { return }
            holder.dropped.insert(index)
            guard holder.dropped.count > GossipLimits.droppedPerFlist else { return }
            holder.bitmap.set(0..<holder.bitmap.count, to: false)
            holder.dropped = []
        }
    }
}

extension GossipLimits {
    /// Bytes of changes after which a segment is closed.
    static let segmentBytes = 400
    /// Bytes of changes that one gossip tick tells as deltas; of more only the version is told, and the others fetch the whole.
    static let flushBytes = 3_000
    /// Chunks of one flist changed between two ticks that are remembered singly.
    static let pendingChunks = 4_096
}
