internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import Gossip
internal import GossipTransport
internal import MeshKeys
internal import PeerExchange
internal import PeerProtocol

/// Flist files from the peers that have them.
extension FlistOpener {
    /// Nodes that are asked what they know a URL as while its hub is out of reach, and how long.
    static let maxOfflinePeers = 16
    static let offlineDeadline: Duration = .seconds(2)

    nonisolated func announced(name: String) -> (FlistDigest, FlistFact)? {
        parts.gossip.read { machine, _ in
            for member in machine.liveOthers {
                for (key, value) in machine.facts(of: member.id) where key.kind == MeshFacts.flist {
                    if let digest = MeshFacts.digest(of: key), let fact = FlistFact(value), fact.name == name { return (digest, fact) }
                }
            }
            return nil
        }
    }

    /// The flist that another node was told of by this URL, of whatever age: for the time when the hub cannot be asked.
    func digest(knownToPeersAs key: UInt64) async -> FlistDigest? {
        let members = parts.gossip.siteMembers.sorted { $0.id < $1.id }
        return await withTaskGroup(of: FlistDigest?.self) { group in
            for member in members.prefix(Self.maxOfflinePeers) {
                group.addTask {
                    let reply = await self.call(
                        member, kind: MessageKind.flistOfURL.rawValue, payload: key.bytes, deadline: Self.offlineDeadline)
                    return reply.flatMap { Bytes32($0) }.map { FlistDigest($0) }
                }
            }
            for await digest in group {
                guard let digest else { continue }
                group.cancelAll()
                return digest
            }
            return nil
        }
    }

    /// The flist file from a peer, checked against its digest.
    func pull(_ digest: FlistDigest, first: NodeID? = nil) async throws -> FlistFiles.Entry {
        if let path = files.path(of: digest) {
            return FlistFiles.Entry(digest: digest, bytes: try await parts.threads.run { try fileSize(path) }, path: path)
        }
        var reason = "no live node has it"
        var sources = parts.gossip.nodes(knowing: digest)
        if let first, !sources.contains(where: { $0.member.id == first }), let member = parts.gossip.member(first),
            let reply = await call(member, kind: MessageKind.flistSize.rawValue, payload: digest.value.bytes, deadline: .seconds(5)),
            reply.count == 8
        {
            sources.insert((member, FlistFact(fetches: false, fileBytes: UInt64(bytes: reply[...]), chunkCount: 0, name: "")), at: 0)
        }
        if sources.isEmpty { sources = await sourcesAtSites(of: digest) }
        for (member, fact) in sources.sorted(by: { $0.member.id == first && $1.member.id != first }) {
            guard !fetcher.isShunned(member.id) else {
                reason = "\(member.name) sent wrong bytes before"
                continue
            }
            guard fact.fileBytes > 0, fact.fileBytes <= UInt64(FlistFiles.maxBytes) else { continue }
            guard first != nil || Int64(fact.fileBytes) <= Self.maxForeignBytes - parts.flists.foreign.bytes else {
                reason = "flists of other nodes' prefetches take \(Self.maxForeignBytes >> 20) MiB already; forget some"
                continue
            }
            do {
                return try await pull(digest, bytes: Int64(fact.fileBytes), from: member)
            } catch {
                reason = "\(member.name): \(error)"
            }
        }
        throw NodeError.unavailable("flist \(digest.hex.prefix(12))… cannot be had from the peers: \(reason)")
    }

    private func pull(_ digest: FlistDigest, bytes: Int64, from member: Member) async throws -> FlistFiles.Entry {
        let writer = try await parts.threads.run { [files] in try files.assemble(digest, byteCount: bytes) }
        let piece = Int64(ProtocolLimits.maxPieceBytes)
        var next: Int64 = 0
        try await withThrowingTaskGroup(of: Void.self) { group in
            var underWay = 0
            while next < bytes || underWay > 0 {
                if next < bytes, underWay < Self.piecesUnderWay {
                    let offset = next
                    let length = Int(min(piece, bytes - offset))
                    group.addTask { try await self.pullPiece(digest, offset, length, from: member, into: writer) }
                    next += Int64(length)
                    underWay += 1
                } else {
                    try await group.next()
                    underWay -= 1
                }
            }
        }
        do {
            return try await parts.threads.run { try writer.finish() }
        } catch {
            // All of it came from this one node.
            parts.counters.blame(member.id)
            fetcher.shun(member.id)
            parts.logger.warning(
                "peer sent wrong bytes for an flist", metadata: ["peer": "\(member.name)", "id": "\(member.id)", "flist": "\(digest)"])
            throw error
        }
    }

    private func pullPiece(_ digest: FlistDigest, _ offset: Int64, _ length: Int, from member: Member, into writer: PieceWriter)
        async throws
    {
        let request = PeerRequest(.flistPiece(digest, offset: UInt64(offset), length: length), priority: .foreground)
        guard case .data(let buffer) = await fetcher.exchange.ask(request, member), buffer.count == length else {
            throw NodeError.unavailable("it did not send the piece at \(offset)")
        }
        try await parts.threads.run { try buffer.withBytes { try writer.write($0, at: offset) } }
    }

    func call(_ member: Member, kind: UInt8, payload: [UInt8], deadline: Duration) async -> [UInt8]? {
        guard
            case .message(let reply) = await fetcher.exchange.ask(
                PeerRequest(.message(kind: kind, payload: payload)), member, deadline: deadline)
        else { return nil }
        return reply
    }
}

/// What nodes call each other for, beside chunks.
enum MessageKind: UInt8 {
    /// Gossip's state exchange.
    case state = 1
    /// Eight bytes that stand for a URL; the answer is the digest of the version that the node has, or nothing.
    case flistVersion = 2
    /// A digest; the answer is the size of the flist file, eight bytes, or nothing.
    case flistSize = 3
    /// A digest; the answer is the signature of the flist, or nothing.
    case flistSignature = 4
    /// Eight bytes that stand for a URL; the answer is the digest of the flist that the node knows by it, however old, or nothing.
    case flistOfURL = 5
    /// From another site. Eight bytes that stand for a URL; the answer is the digest of the flist that this site knows by it, or nothing.
    case siteFlistOfURL = 20
    /// From another site. A name; the answer is the digest of the flist that this site knows by it, or nothing.
    case siteFlistNamed = 21
    /// From another site. A digest; the answer is the size of the flist file, eight bytes, which this node then sends the pieces of, or
    /// nothing.
    case siteFlist = 22
    /// What a node says of the line, heard at once; the answer is what the other one says.
    case lineNote = 30
    /// The hash of what a node knows to have been spent; the answer is what the other knows, or nothing when it is the same.
    case lineBook = 31
    /// A digest; the answer is the chunks that the node's prefetch of the flist gets first (`ProfileOrder.encoded`), or nothing.
    case profile = 40
    /// A step of a key rotation (`KeyOrder`); the answer says which keys the node has (`KeyAnswer`).
    case keys = 50
    /// Nothing; the answer is the revocations that the mesh's admin signed (`RevocationSet.encode`).
    case revocations = 51
}
