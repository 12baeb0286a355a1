internal import ChunkModel
internal import ControlModel
internal import Gossip
internal import GossipTransport
internal import PeerExchange
internal import PeerProtocol

/// The chunks of an flist that a prefetch gets first, in the order of a profile.
struct ProfileOrder: Sendable, Equatable {
    /// Into the flist's chunks, each once.
    let indices: [Int]
    /// Of how many chunks of the profile the flist has none; in words.
    let note: String?

    /// - Throws: `badRequest` for what is no list of chunk ids, or too long.
    init(_ ids: [String], of entry: FlistTable.Entry) throws(NodeError) {
        guard ids.count <= ReadProfile.maxEntries else { throw .badRequest("a profile names \(ReadProfile.maxEntries) chunks at most") }
        var (indices, seen, foreign): ([Int], Set<Int>, Int) = ([], [], 0)
        for text in ids {
            guard let id = ChunkID(hex: text) else { throw .badRequest("the profile names something that is no chunk id") }
            guard let index = entry.flist.index(of: id) else {
                foreign += 1
                continue
            }
            if seen.insert(index).inserted { indices.append(index) }
        }
        self.indices = indices
        note = foreign == 0 ? nil : "\(foreign) of the \(ids.count) chunks of the profile are not of \(entry.record.name)"
    }

    /// What another node says that its job begins with.
    init?(_ bytes: [UInt8], chunkCount: Int) {
        guard !bytes.isEmpty, bytes.count % 4 == 0, bytes.count / 4 <= ReadProfile.maxEntries else { return nil }
        var (indices, seen): ([Int], Set<Int>) = ([], [])
        for start in stride(from: 0, to: bytes.count, by: 4) {
            let index = Int(UInt32(bytes: bytes[start..<start + 4]))
            guard index < chunkCount else { return nil }
            if seen.insert(index).inserted { indices.append(index) }
        }
        (self.indices, note) = (indices, nil)
    }

    /// Four bytes an index: half a megabyte at most.
    var encoded: [UInt8] { indices.flatMap { UInt32(clamping: $0).bytes } }

    /// `wanted` in two: what the profile names, in its order, and the rest in the order that it has.
    func split(_ wanted: [Int]) -> (first: [Int], rest: [Int]) {
        let (isWanted, isNamed) = (Set(wanted), Set(indices))
        return (indices.filter { isWanted.contains($0) }, wanted.filter { !isNamed.contains($0) })
    }
}

extension Prefetcher {
    /// The node whose prefetch it is has this long to tell its order; then the flist's own is taken.
    private static let orderPatience: Duration = .seconds(5)

    /// What a running job of this node gets first.
    func order(of digest: FlistDigest) -> ProfileOrder? {
        state.withLock { state in
            state.jobs.values.first { $0.digest == digest && $0.order != nil && $0.read { $0.job.state == .running } }?.order
        }
    }

    /// The order of another node's job.
    func order(of entry: FlistTable.Entry, from member: Member?) async -> ProfileOrder? {
        guard let member else { return nil }
        let request = PeerRequest(
            .message(kind: MessageKind.profile.rawValue, payload: entry.record.digest.value.bytes), priority: .prefetch)
        guard case .message(let bytes) = await fetcher.exchange.ask(request, member, deadline: Self.orderPatience) else { return nil }
        return ProfileOrder(bytes, chunkCount: entry.flist.chunks.count)
    }
}
