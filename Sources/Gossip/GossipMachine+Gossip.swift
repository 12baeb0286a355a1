internal import ChunkModel
internal import MeshKeys

/// Versions of a node's records that are missing here.
struct Repair: Sendable {
    var at: UInt64
    var attempts = 0
    /// Who is known to have them.
    var source: NodeAddress
}

extension GossipMachine {
    mutating func gossip(_ now: UInt64) {
        nextGossip = now &+ configuration.gossipInterval
        // With the budget spent, what changes here meanwhile is told together, after what was told last.
        if contentBudget.isEasy || !queue.contains(.content(me.id)) { flushPending(now) }
        let recent = dead.filter { now < (members[$0]?.since ?? 0) &+ configuration.gossipToTheDead }
        for place in picks(configuration.gossipFanout, of: roster.count + recent.count) {
            guard queue.hasMembers || (!queue.isEmpty && contentBudget.isOpen) else { return }
            guard let member = members[place < roster.count ? roster[place] : recent[place - roster.count]] else { continue }
            let told = takeGossip(space: GossipLimits.datagramBytes - header.count)
            if told.isEmpty { break }
            contentBudget.spend(GossipLimits.datagramOverhead)
            send([told], to: member.address, about: nil, gossip: false)
        }
    }

    mutating func takeGossip(space: Int) -> [UInt8] {
        if queue.isEmpty || space <= 0 { return [] }
        let contents = contents
        let load = BroadcastQueue.Load(
            space: space, memberLimit: memberRetransmits, contentLimit: contentRetransmits, takesContent: contentBudget.isOpen)
        let (bytes, ofContent) = queue.take(load) { Self.delta(of: $0, since: $1, contents) }
        contentBudget.spend(ofContent)
        return bytes
    }

    /// The changes since a version as a message, as far back as they fit; at least which version there is.
    static func delta(of node: NodeID, since: UInt64, _ contents: ContentTable) -> [UInt8]? {
        guard let content = contents.nodes[node], content.version > 0 else { return nil }
        var chosen: ArraySlice<ChangeSegment> = []
        if let segments = content.segments(since: since) {
            chosen = segments.suffix(GossipLimits.deltaSegments)
            var bytes = chosen.reduce(0) { $0 + $1.changes.count }
            while bytes > GossipLimits.deltaBytes, let first = chosen.first {
                bytes -= first.changes.count
                chosen = chosen.dropFirst()
            }
        }
        var writer = WireWriter()
        guard !chosen.isEmpty else {
            writer.byte(MessageCode.version.rawValue)
            writer.node(node)
            writer.number(content.epoch)
            writer.number(content.version)
            return writer.bytes
        }
        writer.byte(MessageCode.delta.rawValue)
        encode(chosen, of: node, epoch: content.epoch, to: &writer)
        return writer.bytes
    }

    static func encode(_ segments: ArraySlice<ChangeSegment>, of node: NodeID, epoch: UInt64, to writer: inout WireWriter) {
        writer.node(node)
        writer.number(epoch)
        writer.number(segments.first?.from ?? 0)
        writer.number(segments.count)
        for segment in segments {
            writer.number(segment.to &- segment.from)
            writer.string(segment.changes)
        }
    }

    static func decodeSegments(_ reader: inout WireReader) throws -> (node: NodeID, epoch: UInt64, segments: [ChangeSegment]) {
        let node = try reader.node()
        let epoch = try reader.number()
        var from = try reader.number()
        var segments: [ChangeSegment] = []
        for _ in 0..<(try reader.number(upTo: GossipLimits.changeLogBytes)) {
            let step = try reader.number()
            let (to, overflow) = from.addingReportingOverflow(step)
            guard step > 0, !overflow else { throw WireError() }
            segments.append(ChangeSegment(from: from, to: to, changes: try reader.string(upTo: GossipLimits.changeLogBytes)))
            from = to
        }
        return (node, epoch, segments)
    }

    mutating func receiveDelta(_ reader: inout WireReader, _ sender: Sender, _ now: UInt64) throws {
        let (node, epoch, segments) = try Self.decodeSegments(&reader)
        try applyDelta(of: node, epoch: epoch, segments, from: sender.address, now)
    }

    mutating func applyDelta(
        of node: NodeID, epoch: UInt64, _ segments: [ChangeSegment], from source: NodeAddress, isNews: Bool = true, _ now: UInt64
    ) throws {
        guard let member = members[node], member.state != .left, let before = contents.nodes[node]?.version else { return }
        let result = try contents.apply(
            delta: segments, of: node, epoch: epoch, isLive: member.state.isLive, now: now, claimTimeout: configuration.claimTimeout)
        switch result {
        case .old: break
        case .gap: noteVersion(of: node, epoch: epoch, version: segments.last?.to ?? 0, from: source, now)
        case .applied(let touched):
            if let repair = repairs[node], repair.attempts == 0 { repairs[node] = nil }
            tell(touched, of: node, now)
            if isNews { queue.put(.content(node), since: before) }
        }
    }

    mutating func tell(_ touched: ContentTable.Touched, of node: NodeID, _ now: UInt64) {
        if touched.refused { counters.contentsRefused += 1 }
        if touched.facts {
            noteSiteFacts(of: node, now)
            emit(.factsChanged(of: node))
        }
        for digest in touched.flists { emit(.availabilityChanged(of: node, digest)) }
    }

    /// Somebody has a version of the node's records; if it is newer than what is known here, it is asked for after a while.
    mutating func noteVersion(of node: NodeID, epoch: UInt64, version: UInt64, from source: NodeAddress, _ now: UInt64) {
        guard let member = members[node], member.state.isLive, let content = contents.nodes[node], content.epoch == epoch,
            version > content.version
        else { return }
        if repairs[node] == nil {
            // Spread, so that not all who missed the same datagram ask at the same moment.
            let delay = configuration.repairDelay / 2 &+ random.next(upperBound: configuration.repairDelay / 2 + 1)
            repairs[node] = Repair(at: now &+ delay, source: source)
        } else {
            repairs[node]?.source = source
        }
    }

    mutating func tickRepairs(_ now: UInt64) {
        var sources: [NodeAddress] = []
        var wanted: [NodeAddress: [NodeID]] = [:]
        var asked = 0
        for node in Self.due(repairs, now, \.at) {
            guard let repair = repairs[node], repair.attempts < GossipLimits.repairAttempts, members[node]?.state.isLive == true else {
                repairs[node] = nil
                continue
            }
            repairs[node]?.at = now &+ configuration.repairDelay &* 2
            guard contentBudget.isOpen, asked < GossipLimits.repairsAtOnce else { continue }
            asked += 1
            repairs[node]?.attempts += 1
            if wanted[repair.source] == nil { sources.append(repair.source) }
            wanted[repair.source, default: []].append(node)
        }
        for source in sources { requestState(of: wanted[source] ?? [], at: source, now) }
    }
}

extension GossipLimits {
    /// Segments in one delta: later ones repeat the few before them, for those who missed a datagram.
    static let deltaSegments = 6
    /// Requests for one node's missing versions; then the next datagram that shows them missing starts anew.
    static let repairAttempts = 4
    /// Nodes whose missing versions are asked for at one time; further ones wait for the next.
    static let repairsAtOnce = 64
    /// What a datagram costs beside its messages: this machine's head and what the transport and UDP add.
    static let datagramOverhead = 125
}
