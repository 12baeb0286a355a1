internal import ChunkModel
internal import Gossip
internal import GossipTransport
internal import LineBudget
internal import MeshKeys
internal import PeerExchange
internal import PeerProtocol

/// What nodes of a site tell each other of the line without waiting for gossip.
extension LineKeeper {
    func tell(_ note: LineNote, _ members: [Member]) {
        guard let exchange = exchange.value else { return }
        let request = PeerRequest(.message(kind: MessageKind.lineNote.rawValue, payload: note.encoded), priority: .foreground)
        for member in members {
            exchange.send(request, to: member.id, at: member.address, deadline: Self.messageDeadline) { [weak self] response in
                guard case .message(let bytes) = response else { return }
                self?.heard(bytes, from: member.id)
            }
        }
    }

    /// - Returns: what this node says of itself, which may be new.
    func receive(_ bytes: [UInt8], from node: NodeID) -> [UInt8] {
        heard(bytes, from: node)
        return state.withLock { $0.told }.encoded
    }

    private func heard(_ bytes: [UInt8], from node: NodeID) {
        guard let note = LineNote(bytes), node != me, gossip.member(node)?.state.isLive == true else { return }
        let now = clock.now
        let isNew = state.withLock { state in
            if let known = state.heard[node], known.note.sequence > note.sequence { return false }
            let before = state.heard[node]?.note
            state.heard[node] = Heard(note: note, at: now)
            state.holds[node] = note.isReading ? now + Self.holdTime : nil
            return before != note
        }
        if isNew { look() }
    }

    // MARK: Books

    /// The other's book, where it is not the same as the one whose hash came.
    func book(unless hash: [UInt8]) -> [UInt8] {
        let mine = state.withLock { $0.book }.encoded
        return Blake2b.hash256(mine).prefix64.bytes == hash ? [] : mine
    }

    /// Takes over what another node remembers of all: of those that have gone, too.
    func compareBooks(with member: Member) {
        threads.start { [self] in
            let hash = Blake2b.hash256(state.withLock { $0.book }.encoded).prefix64.bytes
            let request = PeerRequest(.message(kind: MessageKind.lineBook.rawValue, payload: hash), priority: .prefetch)
            exchange.value?.send(request, to: member.id, at: member.address, deadline: .seconds(10)) { [weak self] response in
                guard let self, case .message(let bytes) = response, !bytes.isEmpty else { return }
                threads.start { self.merge(bytes) }
            }
        }
    }

    private func merge(_ bytes: [UInt8]) {
        guard let book = LineBook(bytes) else { return }
        let today = LineCap.day(of: WallClock.local(WallClock.now))
        if state.withLock({ $0.book.merge(book, today: today) }) { look() }
    }
}
