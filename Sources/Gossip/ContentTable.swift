internal import ChunkModel
internal import MeshKeys

/// Everything that the nodes of a mesh publish, this one included: facts by node, bitmaps by flist.
struct ContentTable: Sendable {
    /// What a change touched, for events.
    struct Touched {
        var facts = false
        var flists: Set<FlistDigest> = []
        /// The node's flists were refused by this very change.
        var refused = false
    }
    enum DeltaResult {
        case applied(Touched)
        case old
        /// Versions before the delta are missing here.
        case gap
    }

    /// Not counted against the memory limit.
    let own: NodeID
    private(set) var nodes: [NodeID: NodeContent] = [:]
    private(set) var holders: [FlistDigest: [FlistHolder]] = [:]
    private(set) var reservedBytes = 0

    init(own: NodeID) { self.own = own }

    /// Starts afresh unless the node's records are already of this epoch.
    mutating func begin(_ node: NodeID, epoch: UInt64) {
        if nodes[node]?.epoch == epoch { return }
        remove(node)
        nodes[node] = NodeContent(epoch: epoch)
    }

    mutating func remove(_ node: NodeID) {
        guard let content = nodes.removeValue(forKey: node) else { return }
        drop(content.slots.values, of: node)
        if node != own { reservedBytes -= content.chunks / 8 }
    }

    private mutating func drop(_ flists: some Sequence<FlistDigest>, of node: NodeID) {
        for digest in flists {
            holders[digest]?.removeAll { $0.node == node }
            if holders[digest]?.isEmpty == true { holders[digest] = nil }
        }
    }

    mutating func setLive(_ node: NodeID, _ isLive: Bool) {
        guard let content = nodes[node] else { return }
        for digest in content.slots.values { withHolder(node, digest) { $0.isLive = isLive } }
    }

    /// Runs `body` on the node's entry for the flist; `nil` when there is none.
    @discardableResult
    mutating func withHolder<T>(_ node: NodeID, _ flist: FlistDigest, _ body: (inout FlistHolder) throws -> T) rethrows -> T? {
        guard let i = holders[flist]?.firstIndex(where: { $0.node == node }) else { return nil }
        return try body(&holders[flist]![i])
    }

    func holder(_ node: NodeID, _ flist: FlistDigest) -> FlistHolder? { holders[flist]?.first { $0.node == node } }

    /// Access to the records themselves, for the node's own edits.
    mutating func withNode<T>(_ node: NodeID, _ body: (inout NodeContent) -> T) -> T? {
        guard nodes[node] != nil else { return nil }
        return body(&nodes[node]!)
    }

    // MARK: Changes

    mutating func apply(
        delta segments: [ChangeSegment], of node: NodeID, epoch: UInt64, isLive: Bool, now: UInt64, claimTimeout: UInt64
    ) throws -> DeltaResult {
        guard let content = nodes[node], content.epoch == epoch, let first = segments.first, let last = segments.last,
            last.to > content.version
        else { return .old }
        if first.from > content.version { return .gap }
        var touched = Touched()
        for segment in segments where segment.to > (nodes[node]?.version ?? 0) {
            try apply(segment.changes, of: node, isLive: isLive, expiry: now &+ claimTimeout, touched: &touched)
            nodes[node]?.version = segment.to
            nodes[node]?.append(segment)
        }
        return .applied(touched)
    }

    mutating func apply(
        whole changes: [UInt8], version: UInt64, of node: NodeID, epoch: UInt64, isLive: Bool, now: UInt64, claimTimeout: UInt64
    ) throws -> DeltaResult {
        guard let content = nodes[node], content.epoch == epoch, version > content.version else { return .old }
        var touched = Touched()
        touched.facts = !content.facts.isEmpty
        touched.flists = Set(content.slots.values)
        remove(node)
        nodes[node] = NodeContent(epoch: epoch)
        try apply(changes, of: node, isLive: isLive, expiry: now &+ claimTimeout, touched: &touched)
        nodes[node]?.version = version
        return .applied(touched)
    }

    private mutating func apply(_ changes: [UInt8], of node: NodeID, isLive: Bool, expiry: UInt64, touched: inout Touched) throws {
        var reader = WireReader(changes)
        var work = GossipLimits.changeWork
        while !reader.isAtEnd {
            let code = try reader.byte()
            switch code {
            case ChangeCode.setFact, ChangeCode.removeFact:
                guard let key = FactKey(kind: try reader.byte(), id: try reader.string(upTo: GossipLimits.factIDBytes)) else {
                    throw WireError()
                }
                touched.facts = true
                if code == ChangeCode.removeFact {
                    nodes[node]?.facts[key] = nil
                } else {
                    let value = try reader.string(upTo: GossipLimits.factValueBytes)
                    if let facts = nodes[node]?.facts, facts[key] != nil || facts.count < GossipLimits.factsPerNode {
                        nodes[node]?.facts[key] = value
                    }
                }
            case ChangeCode.publish:
                let slot = try reader.number()
                guard let value = Bytes32(try reader.raw(32)) else { throw WireError() }
                let count = try reader.number(upTo: GossipLimits.chunksPerNode)
                if publish(FlistDigest(value), count: count, slot: slot, of: node, isLive: isLive, touched: &touched) {
                    touched.flists.insert(FlistDigest(value))
                }
            default:
                let slot = try reader.number()
                guard let digest = nodes[node]?.slots[slot], let count = holder(node, digest)?.bitmap.count else {
                    // Of a refused or unknown flist: read over it.
                    if code == ChangeCode.withdraw { continue }
                    guard nodes[node]?.refused == true else { throw WireError() }
                    return
                }
                touched.flists.insert(digest)
                if code == ChangeCode.withdraw {
                    withdraw(slot: slot, of: node)
                } else {
                    try withHolder(node, digest) { try Self.change(&$0, code, count: count, from: &reader, expiry: expiry, work: &work) }
                }
            }
        }
    }

    /// - Parameter work: what the message may still cost; see `GossipLimits.changeWork`.
    private static func change(
        _ holder: inout FlistHolder, _ code: UInt8, count: Int, from reader: inout WireReader, expiry: UInt64, work: inout Int
    ) throws {
        func spend(_ steps: Int) throws {
            work -= steps
            guard work >= 0 else { throw WireError() }
        }
        switch code {
        case ChangeCode.setRuns, ChangeCode.clearRuns:
            var end = 0
            for _ in 0..<(try reader.number(upTo: count)) {
                let range = try Bitmap.range(from: &reader, after: &end, count: count)
                let isUniform = holder.bitmap.isEmpty || holder.bitmap.isComplete
                try spend(1 + (isUniform ? count : range.count) / 64 + holder.dropped.count + holder.claims.count)
                holder.bitmap.set(range, to: code == ChangeCode.setRuns)
                if !holder.dropped.isEmpty { holder.dropped = holder.dropped.filter { !range.contains($0) } }
                if !holder.claims.isEmpty { holder.claims = holder.claims.filter { !range.contains($0.key) } }
            }
        case ChangeCode.setAll, ChangeCode.clearAll:
            holder.bitmap.set(0..<count, to: code == ChangeCode.setAll)
            holder.dropped = []
            if code == ChangeCode.setAll { holder.claims = [:] }
        case ChangeCode.bitmap:
            try spend(1 + count / 64)
            holder.bitmap = try Bitmap(from: &reader, count: count)
            holder.dropped = []
        case ChangeCode.claim:
            let index = try reader.number(upTo: max(count - 1, 0))
            if holder.claims.count < GossipLimits.claimsPerNode || holder.claims[index] != nil { holder.claims[index] = expiry }
        case ChangeCode.release:
            holder.claims[try reader.number(upTo: max(count - 1, 0))] = nil
        default: throw WireError()
        }
    }

    /// False when limits forbid it, or it is already there.
    mutating func publish(
        _ digest: FlistDigest, count: Int, slot: UInt64, of node: NodeID, isLive: Bool, touched: inout Touched
    ) -> Bool {
        guard let content = nodes[node], !content.refused, content.slots[slot] == nil, holder(node, digest) == nil else { return false }
        let fits =
            content.slots.count < GossipLimits.flistsPerNode && count <= GossipLimits.chunksPerNode - content.chunks
            && (node == own || reservedBytes + (content.chunks + count) / 8 - content.chunks / 8 <= GossipLimits.bitmapBytes)
        guard fits else {
            if node != own { refuse(node, &touched) }
            return false
        }
        if node != own { reservedBytes += (content.chunks + count) / 8 - content.chunks / 8 }
        nodes[node]?.chunks += count
        nodes[node]?.slots[slot] = digest
        holders[digest, default: []].append(FlistHolder(node: node, slot: slot, isLive: isLive, bitmap: Bitmap(count: count)))
        return true
    }

    private mutating func refuse(_ node: NodeID, _ touched: inout Touched) {
        guard let content = nodes[node] else { return }
        touched.refused = true
        touched.flists.formUnion(content.slots.values)
        drop(content.slots.values, of: node)
        reservedBytes -= content.chunks / 8
        nodes[node]?.slots = [:]
        nodes[node]?.chunks = 0
        nodes[node]?.refused = true
        nodes[node]?.clearLog()
    }

    mutating func withdraw(slot: UInt64, of node: NodeID) {
        guard let content = nodes[node], let digest = content.slots[slot], let count = holder(node, digest)?.bitmap.count else { return }
        drop([digest], of: node)
        if node != own { reservedBytes -= content.chunks / 8 - (content.chunks - count) / 8 }
        nodes[node]?.chunks -= count
        nodes[node]?.slots[slot] = nil
    }

    // MARK: For others

    /// Everything that the node publishes, as changes to nothing. `nil` when this machine does not keep it itself.
    func whole(_ node: NodeID, now: UInt64) -> [UInt8]? {
        guard let content = nodes[node], !content.refused else { return nil }
        var writer = WireWriter()
        for (key, value) in content.facts.sorted(by: { $0.key < $1.key }) { writer.setFact(key, value) }
        for (slot, digest) in content.slots.sorted(by: { $0.key < $1.key }) {
            guard let holder = holder(node, digest) else { continue }
            writer.publish(slot: slot, digest, count: holder.bitmap.count)
            if !holder.bitmap.isEmpty {
                writer.byte(ChangeCode.bitmap)
                writer.number(slot)
                holder.bitmap.encode(to: &writer)
            }
            for (index, expiry) in holder.claims.sorted(by: { $0.key < $1.key }) where expiry > now {
                writer.byte(ChangeCode.claim)
                writer.number(slot)
                writer.number(index)
            }
        }
        return writer.bytes
    }
}

extension WireWriter {
    mutating func setFact(_ key: FactKey, _ value: [UInt8]?) {
        byte(value == nil ? ChangeCode.removeFact : ChangeCode.setFact)
        byte(key.kind)
        string(key.id)
        if let value { string(value) }
    }
    mutating func publish(slot: UInt64, _ digest: FlistDigest, count: Int) {
        byte(ChangeCode.publish)
        number(slot)
        raw(digest.value.bytes)
        number(count)
    }
}
