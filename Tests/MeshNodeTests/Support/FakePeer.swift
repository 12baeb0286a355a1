import ChunkModel
import Flist
import Foundation
import Gossip
import GossipTransport
import Logging
import MeshKeys
import PeerExchange
import PeerProtocol
import Synchronization

@testable import MeshNode

/// A member of the mesh that says and answers what a test wants.
final class FakePeer: PeerRequestHandler {
    typealias Answer = @Sendable (PeerRequest, PeerResponder) -> Void
    let identity = NodeIdentity.random()
    let gossip: GossipTransport
    private let exchange = LateExchange()
    private let answer: Answer
    private let running = Mutex<Task<Void, any Error>?>(nil)
    let asked = Mutex<[ChunkID]>([])

    init(seed: UInt16, site: String = "default", answer: @escaping Answer = { $1.missing() }) throws {
        self.answer = answer
        let ring = MeshKeyRing(keys: [TestMesh.key])!
        let address = NodeAddress("127.0.0.1:\(Loopback.port())")!
        var logger = Logger(label: "fake")
        logger.logLevel = .critical
        var configuration = GossipTransportConfiguration(listen: address)
        configuration.seeds = ["127.0.0.1:\(seed)"]
        configuration.multicast = false
        let exchange = exchange
        gossip = try GossipTransport(
            configuration: configuration, identity: identity, name: "fake", site: site, incarnation: 1, ring: ring, logger: logger
        ) { await exchange.exchangeState($2, with: $0, at: $1) }
        exchange.set(
            PeerExchange(
                configuration: ExchangeConfiguration(listen: [address]), identity: identity, keys: ring, handler: self,
                pool: ChunkBufferPool(), logger: logger))
        try exchange.value?.start()
        running.withLock { $0 = Task { [gossip] in try await gossip.run() } }
    }

    func stop() async {
        let task = running.withLock { $0 }
        task?.cancel()
        _ = try? await task?.value
        exchange.value?.stop()
    }

    /// Claims to hold all chunks of the flist, and to fetch them when asked.
    func announce(_ path: String, name: String = "fake.fl", holds: Bool = true, isSigned: Bool = false) throws -> FlistDigest {
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        let digest = FlistDigest(Blake2b.hash256(bytes))
        let count = try FlistFile(path: path).uniqueChunks().count
        let fact = FlistFact(fetches: false, fileBytes: UInt64(bytes.count), chunkCount: UInt32(count), name: name, isSigned: isSigned)
        gossip.change { machine, _ in
            _ = machine.setFact(MeshFacts.flistKey(digest), fact.encoded)
            _ = machine.publishFlist(digest, chunkCount: count)
            if holds { machine.setHaveAll(digest) }
        }
        return digest
    }

    func set(_ key: FactKey, _ value: [UInt8]) { gossip.change { machine, _ in _ = machine.setFact(key, value) } }

    func handle(_ request: PeerRequest, from peer: NodeID, responder: PeerResponder) {
        if case .message(let kind, let payload) = request.kind, kind == MessageKind.state.rawValue {
            return responder.message(gossip.receiveState(payload, from: gossip.member(peer)?.address).reply)
        }
        if case .chunk(let id, _, _) = request.kind { asked.withLock { $0.append(id) } }
        answer(request, responder)
    }

    func cancelled(_ id: PeerResponder.ID) {}
}

/// Sends the pieces of a file as an flist, and nothing else.
func sendPieces(of path: String) -> FakePeer.Answer {
    { request, responder in
        guard case .flistPiece(_, let offset, let length) = request.kind, let content = FileManager.default.contents(atPath: path),
            Int(offset) + length <= content.count
        else { return responder.missing() }
        responder.sendBytes([UInt8](content[Int(offset)..<Int(offset) + length]))
    }
}
