internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import FetchPlanner
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import PeerExchange
internal import PeerProtocol
internal import Synchronization

/// Serves other sites: chunks that any node of this site holds, never anything from upstream.
///
/// A chunk that is not in this node's cache passes through it without being stored: the site that asked keeps it, and here it is held
/// already.
final class SiteRelay: Sendable {
    /// Chunks on their way through this node at a time; more are told to come back.
    static let maxUnderWay = 32
    static let busyPause: Duration = .milliseconds(200)
    /// Holders of this site that are asked for one chunk.
    static let maxHolders = 3
    /// The time that each of them has.
    static let holderDeadline: Duration = .seconds(10)

    private let parts: NodeParts
    private let fetcher: ChunkFetcher
    private let opener: FlistOpener
    private let underWay = Mutex(0)

    init(parts: NodeParts, fetcher: ChunkFetcher, opener: FlistOpener) {
        (self.parts, self.fetcher, self.opener) = (parts, fetcher, opener)
    }

    /// The chunk is not in this node's cache. On an I/O thread of the exchange.
    func serve(_ id: ChunkID, flist: FlistDigest?, priority: FetchPriority, to responder: PeerResponder) {
        guard let flist, parts.flists.entry(flist) != nil || !parts.gossip.nodes(knowing: flist).isEmpty else {
            return responder.missing()
        }
        let isTaken = underWay.withLock { count in
            guard count < Self.maxUnderWay else { return false }
            count += 1
            return true
        }
        guard isTaken else { return responder.busy(retryAfter: Self.busyPause) }
        Task { [self] in
            defer { underWay.withLock { $0 -= 1 } }
            // Which chunk of the flist it is stands in the flist.
            if parts.flists.entry(flist) == nil, (try? await opener.openForPeers(flist)) == nil { return responder.missing() }
            guard let chunk = await chunk(id, flist: flist, priority: priority) else { return responder.missing() }
            parts.counters.add { $0.toSites.add(chunk.byteCount) }
            responder.sendBuffer(chunk.buffer)
        }
    }

    private func chunk(_ id: ChunkID, flist: FlistDigest, priority: FetchPriority) async -> Chunk? {
        var holders = fetcher.view.holders(of: id)
        holders.shuffle()
        for node in holders.prefix(Self.maxHolders) {
            guard let member = parts.gossip.member(node) else { continue }
            let request = PeerRequest(.chunk(id, .ifHeld, flist: flist), priority: priority)
            switch await fetcher.exchange.ask(request, member, deadline: Self.holderDeadline) {
            case .data(let buffer):
                if let chunk = await parts.threads.run({ Chunk(verifying: buffer, as: id) }) { return chunk }
                parts.counters.blame(node)
                parts.logger.warning(
                    "peer sent wrong bytes for a chunk", metadata: ["peer": "\(member.name)", "id": "\(node)", "chunk": "\(id)"])
            case .missing:
                let places = parts.flists.places(of: id)
                parts.gossip.change { machine, _ in
                    for (digest, index) in places { machine.dropClaimedHave(node, digest, index) }
                }
            case .pending, .busy, .refused, .message, .failed: break
            }
        }
        return nil
    }
}
