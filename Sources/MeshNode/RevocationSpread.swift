internal import BlockingThreads
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import PeerExchange
internal import PeerProtocol
internal import Synchronization

/// Brings the revocations that other nodes know to this one. Nodes tell each other a hash of theirs by gossip; who sees another hash asks
/// for the list. Only what the mesh's admin key signed is believed, whoever sends it.
final class RevocationSpread: Sendable {
    /// A list is asked for after at most this long, so that not all ask the first one that has it.
    static let maxDelay: Duration = .milliseconds(500)
    static let deadline: Duration = .seconds(10)
    /// Summaries whose lists were seen, so that each is asked for once; all are forgotten when there are so many.
    static let maxSeen = 256
    /// Lists that are being asked for; more wait for the next change.
    static let maxUnderWay = 4

    private struct State {
        var seen: Set<[UInt8]> = []
        var underWay: Set<[UInt8]> = []
    }
    private let state = Mutex(State())
    private let parts: NodeParts
    private let rules: MemberRules
    private let exchange: LateExchange

    init(parts: NodeParts, rules: MemberRules, exchange: LateExchange) {
        (self.parts, self.rules, self.exchange) = (parts, rules, exchange)
    }

    /// A node's facts have changed.
    func look(at node: NodeID) {
        guard rules.admin != nil, let summary = parts.gossip.read({ machine, _ in machine.facts(of: node)[MeshFacts.revocationsKey] }),
            summary != RevocationSet.summary(rules.proven)
        else { return }
        let isMine = state.withLock { state in
            guard !state.seen.contains(summary), state.underWay.count < Self.maxUnderWay else { return false }
            return state.underWay.insert(summary).inserted
        }
        if isMine { Task { await ask(for: summary) } }
    }

    private func ask(for summary: [UInt8]) async {
        defer { state.withLock { _ = $0.underWay.remove(summary) } }
        try? await Task.sleep(for: Self.maxDelay * Double.random(in: 0...1))
        let holders = parts.gossip.read { machine, _ in
            machine.nodes(withFact: MeshFacts.revocationsKey).filter { $0.value == summary && $0.node != machine.me.id }.compactMap {
                machine.members[$0.node]
            }
        }
        guard let member = holders.randomElement() else { return }
        let request = PeerRequest(.message(kind: MessageKind.revocations.rawValue, payload: []))
        guard case .message(let bytes) = await exchange.ask(request, member, deadline: Self.deadline) else { return }
        let admin = rules.admin
        let list = RevocationSet.decode(bytes) ?? []
        let genuine = list.filter { $0.isProven(by: admin) }
        if genuine.count < max(1, list.count) {
            parts.logger.warning(
                "a peer sent revocations that mesh.admin did not sign", metadata: ["peer": "\(member.name)", "id": "\(member.id)"])
        }
        do {
            _ = try await parts.threads.run { [rules] in try rules.add(genuine) }
            state.withLock { state in
                if state.seen.count >= Self.maxSeen { state.seen = [] }
                state.seen.insert(summary)
            }
        } catch {
            parts.logger.error("revocations of the mesh cannot be kept", metadata: ["error": "\(error)"])
        }
    }
}
