internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import Gossip
internal import GossipTransport
internal import MeshKeys

/// What this node and its site have of an flist.
extension MeshNode {
    /// Looks at every chunk: blocking.
    func status(_ entry: FlistTable.Entry) -> Status.Flist {
        let count = entry.flist.chunks.count
        let held = sizes(of: entry.flist)
        var shown = Status.Flist(
            name: entry.record.name, digest: entry.record.digest.hex, chunks: count,
            bytes: held.bytes + UInt64((count - held.chunks) * held.mean),
            pinned: entry.record.isPinned,
            node: .init(chunks: held.chunks, bytes: held.bytes, complete: held.chunks == count, missing: count - held.chunks),
            site: siteStatus(entry), upstream: upstreamStatus(entry.record.digest), signature: entry.record.signature?.shown)
        shown.goal = goal(of: entry)
        return shown
    }

    private func siteStatus(_ entry: FlistTable.Entry) -> Status.Flist.Site {
        let count = entry.flist.chunks.count
        let digest = entry.record.digest
        let copies = parts.gossip.read { machine, _ in machine.copies(of: digest) } ?? []
        guard copies.count == count, let fewest = copies.min(), let rarest = copies.firstIndex(of: fewest) else {
            return .init(chunks: 0, complete: count == 0, minCopies: 0, missing: count)
        }
        let atSite = copies.count { $0 > 0 }
        let nodes = parts.gossip.read { machine, _ in
            var holders = machine.holders(of: digest, rarest).compactMap { machine.members[$0] }
                .map { Status.Flist.Rarest.Node(name: $0.name, id: $0.id.hex) }
            if machine.bitmap(of: machine.me.id, digest)?.contains(rarest) == true {
                holders.append(.init(name: machine.me.name, id: machine.me.id.hex))
            }
            return holders.sorted { ($0.name, $0.id) < ($1.name, $1.id) }
        }
        return .init(
            chunks: atSite, complete: atSite == count, minCopies: Int(fewest), missing: count - atSite,
            rarest: .init(
                chunk: entry.flist.chunks[rarest].hex, copies: Int(fewest), chunks: copies.count { $0 == fewest }, nodes: nodes))
    }

    private func goal(of entry: FlistTable.Entry) -> Status.Flist.Goal? {
        let digest = entry.record.digest
        guard let goal = keeper.goals[digest] else { return nil }
        let round = parts.keepRound(of: entry, copies: Int(goal.copies))
        let progress = keeper.progress(of: digest)
        var note = progress?.note
        if round.holders.count < Int(goal.copies) {
            let nodes = round.holders.count
            note =
                note ?? "\(goal.copies) copies are wanted, and \(nodes) \(nodes == 1 ? "node takes" : "nodes take") part: as many are kept"
        }
        return .init(
            copies: Int(goal.copies), nodes: round.holders.count, keptChunks: round.keptChunks,
            state: progress.flatMap { .init(rawValue: $0.state.rawValue) } ?? .opening, note: note)
    }
}
