internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import Minisign
internal import NodeConfiguration
internal import PeerExchange
internal import PeerProtocol
internal import Synchronization

/// Changes the mesh's key while the mesh runs: the new one is installed on all live members, then used, then the old one is removed, each
/// step only when all have confirmed the one before. Each step can be done again without harm, so an interrupted rotation goes on where
/// it stopped. Also answers when another node does this.
final class KeyRotator: Sendable {
    /// The new key of an unfinished rotation, by its fingerprint.
    static let file = "rotation"
    /// A member that does not answer is asked so often, with this pause.
    static let attempts = 3
    static let pause: Duration = .seconds(1)
    static let deadline: Duration = .seconds(10)
    /// Members asked at the same time.
    static let atOnce = 32
    /// Members that joined during a step are brought up to date by another round; after so many the rest is named.
    static let rounds = 5

    private let parts: NodeParts
    private let keeper: KeyKeeper
    private let rules: MemberRules
    private let exchange: LateExchange
    private let directory: StateDirectory
    private let isRunning = Mutex(false)

    init(parts: NodeParts, keeper: KeyKeeper, rules: MemberRules, exchange: LateExchange, directory: String) throws {
        (self.parts, self.keeper, self.rules, self.exchange) = (parts, keeper, rules, exchange)
        self.directory = try StateDirectory(directory)
    }

    // MARK: For other nodes

    /// A step that another member asks for. Blocking.
    func answer(_ payload: [UInt8], from peer: NodeID) -> KeyAnswer {
        guard let order = KeyOrder(payload) else { return KeyAnswer(keys: keeper.fingerprints, problem: "the order makes no sense") }
        if order.step != .list, let admin = rules.admin, !order.isProven(by: admin) {
            parts.logger.warning(
                "a peer wants to change the mesh keys without the signature of mesh.admin",
                metadata: ["id": "\(peer)", "step": "\(order.step)"])
            return KeyAnswer(keys: keeper.fingerprints, problem: "mesh.admin is set there: chunkmesh key rotate --sign KEY signs the steps")
        }
        do {
            return KeyAnswer(keys: try keeper.perform(order))
        } catch {
            parts.logger.error(
                "a step of a key rotation was not done", metadata: ["id": "\(peer)", "step": "\(order.step)", "error": "\(error)"])
            return KeyAnswer(keys: keeper.fingerprints, problem: "\(error)")
        }
    }

    // MARK: For this node's users

    func list() async throws(NodeError) -> MeshKeyList {
        guard keeper.file != nil else { throw .conflict("no mesh.keyFile is configured: this node is on loopback only") }
        let nodes = await asked(KeyOrder.list, live)
        return MeshKeyList(nodes: [own()] + nodes, away: away, rotating: await pending().map { "\($0)" })
    }

    func rotate(_ request: KeyRotation) async throws(NodeError) -> KeyRotationReport {
        guard keeper.file != nil else { throw .conflict("no mesh.keyFile is configured: this node is on loopback only") }
        let isFirst = isRunning.withLock { running in
            defer { running = true }
            return !running
        }
        guard isFirst else { throw .conflict("a rotation is under way on this node") }
        defer { isRunning.withLock { $0 = false } }
        var run = Run(key: try await newKey(for: request), request: request)
        switch request.step {
        case .install: _ = await install(&run)
        case .use: _ = await use(&run)
        case .remove: _ = await removeNamed(&run)
        case nil:
            guard await install(&run), await use(&run) else { break }
            guard run.mayLeaveBehind(away) else { break }
            await removeOthers(&run)
        }
        let done = run.problem == nil
        if done, request.step == nil || request.step == .remove, keeper.fingerprints.count == 1 { await setPending(nil) }
        return KeyRotationReport(key: "\(run.key)", steps: run.steps, away: away, done: done, problem: run.problem)
    }

    private struct Run {
        let key: MeshKeyFingerprint
        let request: KeyRotation
        var steps: [KeyRotationReport.Done] = []
        var problem: String?

        /// Members that are away have the old key only.
        mutating func mayLeaveBehind(_ away: [MeshKeyList.Away]) -> Bool {
            guard !away.isEmpty, request.force != true else { return true }
            problem =
                "the old key stays for now: \(away.count) known members are away and would be locked out (\(away.map(\.name).joined(separator: ", ")));"
                + " rotate again when they are back, or with --force, and copy the key file to them"
            return false
        }
    }

    /// The key that the request is about. A new one is made, and noted, when no rotation is unfinished.
    private func newKey(for request: KeyRotation) async throws(NodeError) -> MeshKeyFingerprint {
        if let text = request.key {
            guard let key = MeshKeyFingerprint(hex: text) else { throw .badRequest("a key is named by its fingerprint, 16 hex digits") }
            guard keeper.fingerprints.contains(key) else { throw .notFound("this node has no key \(key); chunkmesh key list shows them") }
            if request.step != .remove { await setPending(key) }
            return key
        }
        let pending = await pending()
        if let pending, keeper.fingerprints.contains(pending) { return pending }
        switch request.step {
        case .use, .remove:
            throw .conflict("no rotation is under way on this node; name the key with --key, as chunkmesh key list shows it")
        case .install, nil: break
        }
        guard keeper.fingerprints.count == 1 else {
            throw .conflict(
                "this node has \(keeper.fingerprints.count) keys already: finish that rotation with --key FINGERPRINT of the new one, "
                    + "or remove the others with --step remove --key FINGERPRINT")
        }
        let bytes: [UInt8]
        if let text = request.newKey {
            guard let given = Base64.decode(text), given.count == MeshKeyRing.keyBytes else { throw .badRequest("newKey is no mesh key") }
            bytes = given
        } else {
            bytes = MeshKeyRing.randomKey()
        }
        guard let key = MeshKeyRing(keys: [bytes])?.fingerprints.first else { throw .badRequest("newKey is no mesh key") }
        // Here first: a node that cannot write its file must not begin.
        let order = KeyOrder(step: .install, key: key, newKey: bytes)
        do {
            _ = try await parts.threads.run { [keeper] in try keeper.perform(order) }
        } catch {
            throw error as? NodeError ?? .unavailable("\(error)")
        }
        await setPending(key)
        return key
    }

    // MARK: Steps

    private func order(_ step: KeyOrder.Step, _ key: MeshKeyFingerprint, _ request: KeyRotation) -> KeyOrder {
        let name = step.shown.map { "\($0.rawValue) \(key)" } ?? ""
        return KeyOrder(
            step: step, key: key, newKey: step == .install ? keeper.key(of: key) : nil,
            proof: request.signatures?[name].map { Array($0.utf8) } ?? [])
    }

    private func install(_ run: inout Run) async -> Bool { await everywhere(.install, run.key, &run) }

    private func use(_ run: inout Run) async -> Bool {
        // Who came since has not heard of the key yet.
        guard await everywhere(.install, run.key, &run, quietly: true) else { return false }
        return await everywhere(.use, run.key, &run)
    }

    /// Every key but the new one, on every node. Keys that only others have go too.
    private func removeOthers(_ run: inout Run) async {
        let lists = await asked(.list, live)
        let known = Set(lists.flatMap(\.keys).compactMap { MeshKeyFingerprint(hex: $0) } + keeper.fingerprints)
        for key in known.subtracting([run.key]).sorted(by: { "\($0)" < "\($1)" }) {
            guard await everywhere(.remove, key, &run) else { return }
        }
    }

    private func removeNamed(_ run: inout Run) async -> Bool {
        // Named: that key goes. Not named: all but the new one of the rotation.
        if run.request.key != nil {
            guard run.mayLeaveBehind(away) else { return false }
            return await everywhere(.remove, run.key, &run)
        }
        guard keeper.fingerprints.first == run.key else {
            run.problem = "the new key is not used yet: chunkmesh key rotate --step use comes before"
            return false
        }
        guard run.mayLeaveBehind(away) else { return false }
        await removeOthers(&run)
        return run.problem == nil
    }

    /// One step on all live members and on this node, this one last.
    ///
    /// - Returns: whether all have confirmed it; else the run names those that have not.
    private func everywhere(_ step: KeyOrder.Step, _ key: MeshKeyFingerprint, _ run: inout Run, quietly: Bool = false) async -> Bool {
        let order = order(step, key, run.request)
        var results: [NodeID: MeshKeyList.Node] = [:]
        for _ in 0..<Self.rounds {
            let missing = live.filter { results[$0.id]?.error != nil || results[$0.id] == nil }
            if missing.isEmpty || missing.allSatisfy({ results[$0.id] != nil }) { break }
            for (member, result) in zip(missing, await asked(order, missing)) { results[member.id] = result }
        }
        // Who left meanwhile is not waited for.
        let stillThere = Set(live.map(\.id))
        var nodes = results.filter { stillThere.contains($0.key) || $0.value.error == nil }.values.sorted {
            ($0.name, $0.id) < ($1.name, $1.id)
        }
        if nodes.allSatisfy({ $0.error == nil }) {
            do {
                _ = try await parts.threads.run { [keeper] in try keeper.perform(order) }
                nodes.insert(own(), at: 0)
            } catch {
                nodes.insert(own(problem: "\(error)"), at: 0)
            }
        }
        let failed = nodes.filter { $0.error != nil }
        if !quietly || !failed.isEmpty, let shown = step.shown {
            run.steps.append(KeyRotationReport.Done(step: shown, key: "\(key)", nodes: nodes))
        }
        guard failed.isEmpty else {
            run.problem =
                "\(failed.count) of \(nodes.count) nodes did not confirm the step \(step) (\(failed.map(\.name).joined(separator: ", "))); "
                + "nothing is lost, rotate again to go on"
            return false
        }
        return true
    }

    // MARK: Nodes

    private var live: [Member] {
        parts.gossip.members().filter { $0.state.isLive && $0.id != parts.identity.id }.sorted { ($0.name, $0.id) < ($1.name, $1.id) }
    }

    private var away: [MeshKeyList.Away] {
        parts.gossip.members().filter { $0.state == .dead }.map { MeshKeyList.Away(name: $0.name, id: $0.id.hex) }.sorted {
            ($0.name, $0.id) < ($1.name, $1.id)
        }
    }

    private func own(problem: String? = nil) -> MeshKeyList.Node {
        MeshKeyList.Node(
            name: parts.gossip.read { machine, _ in machine.me.name }, id: parts.identity.id.hex,
            keys: keeper.fingerprints.map(\.description),
            error: problem)
    }

    /// The members' answers, in their order.
    private func asked(_ order: KeyOrder, _ members: [Member]) async -> [MeshKeyList.Node] {
        await withTaskGroup(of: (Int, MeshKeyList.Node).self) { group in
            var out = [MeshKeyList.Node?](repeating: nil, count: members.count)
            var next = 0
            while next < members.count || !group.isEmpty {
                if next < members.count, next - out.count(where: { $0 != nil }) < Self.atOnce {
                    let (place, member) = (next, members[next])
                    group.addTask { (place, await self.ask(order, member)) }
                    next += 1
                } else if let (place, node) = await group.next() {
                    out[place] = node
                }
            }
            return out.compactMap { $0 }
        }
    }

    private func ask(_ order: KeyOrder, _ member: Member) async -> MeshKeyList.Node {
        var problem = "it does not answer"
        for attempt in 1...Self.attempts {
            let request = PeerRequest(.message(kind: MessageKind.keys.rawValue, payload: order.encoded))
            switch await exchange.ask(request, member, deadline: Self.deadline) {
            case .message(let bytes):
                guard let answer = KeyAnswer(bytes) else { problem = "its answer makes no sense"; break }
                return MeshKeyList.Node(
                    name: member.name, id: member.id.hex, keys: answer.keys.map(\.description), error: answer.problem)
            case .refused(let reason): problem = "it refuses: \(reason)"
            case .failed(let error): problem = "\(error)"
            case .busy, .missing, .data, .pending: problem = "it is busy"
            }
            if attempt < Self.attempts { try? await Task.sleep(for: Self.pause) }
        }
        return MeshKeyList.Node(name: member.name, id: member.id.hex, keys: [], error: problem)
    }

    // MARK: What is unfinished

    private func pending() async -> MeshKeyFingerprint? {
        let text = try? await parts.threads.run { [directory] in try directory.read(Self.file, maxBytes: 64) }
        return text.flatMap { $0 }.flatMap { MeshKeyFingerprint(hex: String(decoding: $0, as: UTF8.self)) }
    }

    private func setPending(_ key: MeshKeyFingerprint?) async {
        do {
            try await parts.threads.run { [directory] in
                if let key { try directory.writeAtomically(Self.file, Array("\(key)".utf8)) } else { try directory.remove(Self.file) }
            }
        } catch {
            parts.logger.warning("the state of the key rotation is not kept", metadata: ["error": "\(error)"])
        }
    }
}
