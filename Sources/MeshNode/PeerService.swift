internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import Glibc
internal import Gossip
internal import GossipTransport
internal import MeshKeys
internal import PeerExchange
internal import PeerProtocol

/// What this node does for others: sends chunks and flists, fetches as an owner, exchanges state.
final class PeerService: PeerRequestHandler {
    private let parts: NodeParts
    private let fetcher: ChunkFetcher
    private let files: FlistFiles
    private let opener: FlistOpener
    private let relay: SiteRelay
    private let rotator: KeyRotator
    private let rules: MemberRules
    private let orders: @Sendable (FlistDigest) -> ProfileOrder?

    /// - Parameter orders: what a prefetch of this node gets first.
    init(
        parts: NodeParts, fetcher: ChunkFetcher, files: FlistFiles, opener: FlistOpener, rotator: KeyRotator, rules: MemberRules,
        orders: @escaping @Sendable (FlistDigest) -> ProfileOrder?
    ) {
        self.orders = orders
        (self.parts, self.fetcher, self.files, self.opener) = (parts, fetcher, files, opener)
        relay = SiteRelay(parts: parts, fetcher: fetcher, opener: opener)
        (self.rotator, self.rules) = (rotator, rules)
    }

    func handle(_ request: PeerRequest, from peer: NodeID, responder: PeerResponder) {
        switch request.kind {
        case .chunk(let id, .site, let flist) where !parts.store.contains(id):
            relay.serve(id, flist: flist, priority: request.priority, to: responder)
        case .chunk(let id, let mode, let flist): fetcher.serve(id, mode, flist: flist, priority: request.priority, to: responder, of: peer)
        case .flistPiece(let digest, let offset, let length): sendPiece(of: digest, offset, length, responder)
        case .message(let kind, let payload): answer(kind, payload, from: peer, responder)
        }
    }

    func cancelled(_ id: PeerResponder.ID) { fetcher.cancelled(id) }

    private func sendPiece(of digest: FlistDigest, _ offset: UInt64, _ length: Int, _ responder: PeerResponder) {
        parts.threads.start { [files] in
            guard let path = files.path(of: digest) else { return responder.missing() }
            let descriptor = open(path, O_RDONLY | O_CLOEXEC)
            var status = stat()
            guard descriptor >= 0 else { return responder.missing() }
            guard fstat(descriptor, &status) == 0, let start = Int64(exactly: offset), start <= Int64(status.st_size),
                Int64(length) <= Int64(status.st_size) - start
            else {
                close(descriptor)
                return responder.missing()
            }
            responder.sendFile(descriptor, offset: start, length: length)
        }
    }

    private func answer(_ kind: UInt8, _ payload: [UInt8], from peer: NodeID, _ responder: PeerResponder) {
        switch MessageKind(rawValue: kind) {
        case .state: exchangeState(payload, with: peer, responder)
        case .keys: parts.threads.start { [rotator] in responder.message(rotator.answer(payload, from: peer).encoded) }
        case .revocations: parts.threads.start { [rules] in responder.message(RevocationSet.encode(rules.proven)) }
        case .flistVersion:
            guard payload.count == 8 else { return responder.refused(.notAllowed) }
            let key = UInt64(bytes: payload[...])
            Task { [opener] in
                let digest = await opener.version(ofURL: key)
                responder.message(digest?.value.bytes ?? [])
            }
        case .flistSize:
            guard let digest = Bytes32(payload).map({ FlistDigest($0) }), let entry = parts.flists.entry(digest) else {
                return responder.message([])
            }
            responder.message(UInt64(clamping: entry.flist.fileBytes).bytes)
        case .flistSignature:
            guard let digest = Bytes32(payload).map({ FlistDigest($0) }), parts.flists.entry(digest) != nil else {
                return responder.message([])
            }
            parts.threads.start { [files] in responder.message(files.signature(of: digest) ?? []) }
        case .flistOfURL:
            guard payload.count == 8 else { return responder.refused(.notAllowed) }
            responder.message(parts.flists.find(urlKey: UInt64(bytes: payload[...]))?.record.digest.value.bytes ?? [])
        case .siteFlistOfURL:
            guard payload.count == 8 else { return responder.refused(.notAllowed) }
            let key = UInt64(bytes: payload[...])
            Task { [opener] in responder.message(await opener.digestForSites(ofURL: key)?.value.bytes ?? []) }
        case .siteFlistNamed:
            guard payload.count <= FlistRecord.maxNameBytes else { return responder.refused(.notAllowed) }
            responder.message(opener.digestForSites(named: String(decoding: payload, as: UTF8.self))?.value.bytes ?? [])
        case .siteFlist:
            guard let digest = Bytes32(payload).map({ FlistDigest($0) }) else { return responder.refused(.notAllowed) }
            Task { [opener] in responder.message(await opener.bytesForSites(of: digest)?.bytes ?? []) }
        case .lineNote: responder.message(parts.line.receive(payload, from: peer))
        case .lineBook: parts.threads.start { [parts] in responder.message(parts.line.book(unless: payload)) }
        case .profile:
            guard let digest = Bytes32(payload).map({ FlistDigest($0) }) else { return responder.refused(.notAllowed) }
            parts.threads.start { [orders] in responder.message(orders(digest)?.encoded ?? []) }
        case nil: responder.refused(.unknownKind)
        }
    }

    /// By the stream it is certain who speaks: one that talks nonsense is blamed for it, and one that is shunned is not heard.
    private func exchangeState(_ payload: [UInt8], with peer: NodeID, _ responder: PeerResponder) {
        guard !fetcher.isShunned(peer) else { return responder.refused(.notAllowed) }
        // Somebody new says himself on which port he listens.
        let from = parts.gossip.member(peer)?.address ?? NodeAddress(ip: responder.remote.ip, port: 0)
        let (reply, isSound) = parts.gossip.receiveState(payload, from: from, asker: peer)
        if !isSound, fetcher.noteOffence(peer) {
            parts.logger.warning(
                "peer sends gossip that makes no sense or is forged; it is shunned for a while",
                metadata: ["peer": "\(parts.gossip.member(peer)?.name ?? "")", "id": "\(peer)"])
        }
        responder.message(reply)
    }
}

extension LateExchange {
    /// One request, awaited: the final answer. Cancelling the task cancels the request.
    func ask(_ request: PeerRequest, _ member: Member, deadline: Duration = .seconds(30)) async -> PeerResponse {
        await ask(request, member.id, at: member.address, deadline: deadline)
    }

    func ask(_ request: PeerRequest, _ node: NodeID, at address: NodeAddress, deadline: Duration) async -> PeerResponse {
        guard let exchange = value else { return .failed(.stopped) }
        let sent = Setting<RequestID?>(nil)
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                sent.value = exchange.send(request, to: node, at: address, deadline: deadline) { response in
                    if response.isFinal { continuation.resume(returning: response) }
                }
                // Cancelled before there was an id to cancel.
                if Task.isCancelled, let id = sent.value { exchange.cancel(id) }
            }
        } onCancel: {
            if let id = sent.value { exchange.cancel(id) }
        }
    }
}
