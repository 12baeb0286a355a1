import ChunkModel
import Foundation
import Gossip
import GossipTransport
import Logging
import MeshKeys
import Testing

/// Real sockets on loopback.
@Suite struct GossipTransportTests {
    let key = MeshKeyRing.randomKey()
    let flist = FlistDigest(Bytes32([UInt8](repeating: 9, count: 32))!)

    func node(
        _ name: String, key: [UInt8]?, seeds: [String] = [], multicast: UInt16? = nil, perSecond: Int = 4_000,
        sendState: GossipTransport.SendState? = nil
    ) throws -> GossipTransport {
        var configuration = GossipTransportConfiguration(listen: NodeAddress("127.0.0.1:0")!)
        configuration.seeds = seeds
        configuration.multicast = multicast != nil
        configuration.multicastPort = multicast ?? 0
        configuration.datagramsPerSecond = perSecond
        var logger = Logger(label: name)
        logger.logLevel = .error
        return try GossipTransport(
            configuration: configuration, identity: NodeIdentity.random(), name: name, site: "lab", incarnation: 1_700_000_000,
            ring: key.flatMap { MeshKeyRing(keys: [$0]) }, logger: logger, sendState: sendState)
    }

    /// Waits until the condition holds, for five seconds at most.
    func soon(_ condition: () -> Bool, at location: SourceLocation = #_sourceLocation) async throws {
        let end = Date().addingTimeInterval(5)
        while !condition() {
            if Date() > end {
                Issue.record("did not come true within 5 s", sourceLocation: location)
                return
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    func alive(_ node: GossipTransport) -> Set<String> { Set(node.members().filter { $0.state.isLive }.map(\.name)) }

    /// Runs `body` while the nodes run.
    func running(_ nodes: [GossipTransport], _ body: () async throws -> Void) async throws {
        let tasks = nodes.map { node in Task { try await node.run() } }
        defer { tasks.forEach { $0.cancel() } }
        try await soon { nodes.allSatisfy { $0.localAddress != nil } }
        try await body()
        tasks.forEach { $0.cancel() }
        for task in tasks { try await task.value }
    }

    @Test func fiveNodesMeetByOneSeedAndShareWhatTheyHave() async throws {
        let first = try node("n0", key: key)
        try await running([first]) {
            let seed = "localhost:\(first.localAddress?.port ?? 0)"
            let others = try (1..<5).map { try node("n\($0)", key: key, seeds: [seed]) }
            let all = [first] + others
            try await running(others) {
                try await soon { all.allSatisfy { alive($0).count == 4 } }
                others[0].withMachine { machine, _ in
                    machine.publishFlist(flist, chunkCount: 100)
                    machine.setHave(flist, [5, 7])
                }
                let id = others[0].withMachine { machine, _ in machine.me.id }
                try await soon { others[3].withMachine { machine, _ in machine.holders(of: flist, 7) } == [id] }
                try await soon { first.members().contains { $0.roundTrip != nil } }
            }
            // They said goodbye when they were cancelled.
            try await soon { first.members().filter { $0.state == .left }.count == 4 }
        }
    }

    @Test func anotherKeyLetsNobodyIn() async throws {
        let first = try node("n0", key: key)
        try await running([first]) {
            let stranger = try node("stranger", key: MeshKeyRing.randomKey(), seeds: ["127.0.0.1:\(first.localAddress?.port ?? 0)"])
            try await running([stranger]) {
                try await soon { first.counters().transport.foreign >= 2 }
                #expect(first.members().isEmpty)
                #expect(stranger.members().isEmpty)
            }
        }
    }

    @Test func garbageIsCountedAndARecordingIsNotBelieved() async throws {
        let first = try node("n0", key: key)
        let second = try node("n1", key: key)
        try await running([first, second]) {
            let wire = try Wiretap()
            let target = try #require(first.localAddress)
            for i in 0..<20 { wire.send([UInt8](repeating: UInt8(i), count: i * 80), to: target) }
            try await soon { first.counters().transport.foreign == 20 }
            // The second node's request is recorded on its way to somebody else, and sent to the first over and over.
            second.perform { $0.join([wire.address], now: $1) }
            let recorded = try #require(wire.receive())
            for _ in 0..<5 { wire.send(recorded, to: target) }
            try await soon { first.counters().transport.held >= 4 }
            #expect(wire.receive() != nil)
            #expect(first.members().isEmpty)
            #expect(first.counters().machine.datagramsReceived == 0)
        }
    }

    @Test func whoSendsMuchGarbageIsNotListenedTo() async throws {
        let first = try node("n0", key: key)
        try await running([first]) {
            let wire = try Wiretap()
            let target = try #require(first.localAddress)
            for _ in 0..<400 { wire.send([1, 2, 3], to: target) }
            try await soon { first.counters().transport.limited > 0 }
        }
    }

    @Test func withoutAKeyOnlyLoopbackWillDo() async throws {
        let identity = NodeIdentity.random()
        let open = GossipTransportConfiguration(listen: NodeAddress("192.0.2.1:0")!)
        #expect(throws: GossipTransportError.noKeyBeyondLoopback(open.listen)) {
            try GossipTransport(
                configuration: open, identity: identity, name: "n", site: "s", incarnation: 1, ring: nil, logger: Logger(label: "t"))
        }
        let any = GossipTransportConfiguration(listen: NodeAddress("0.0.0.0:0")!)
        let node = try GossipTransport(
            configuration: any, identity: identity, name: "n", site: "s", incarnation: 1, ring: nil, logger: Logger(label: "t"))
        try await running([node]) { #expect(node.localAddress?.isLoopback == true) }
    }

    @Test func aPortInUseIsOneClearLine() async throws {
        let first = try node("n0", key: key)
        try await running([first]) {
            let taken = try #require(first.localAddress)
            let second = try GossipTransport(
                configuration: GossipTransportConfiguration(listen: taken), identity: NodeIdentity.random(), name: "n", site: "s",
                incarnation: 1,
                ring: MeshKeyRing(keys: [key]), logger: Logger(label: "t"))
            await #expect(throws: GossipTransportError.self) { try await second.run() }
        }
    }

    @Test func multicastNeedsNoSeed() async throws {
        let port = UInt16.random(in: 20_000...30_000)
        let nodes = try (0..<3).map { try node("n\($0)", key: key, multicast: port) }
        try await running(nodes) { try await soon { nodes.allSatisfy { alive($0).count == 2 } } }
    }

    @Test func largeStateTravelsByTheStream() async throws {
        let first = try node("n0", key: key)
        try await running([first]) {
            let send: GossipTransport.SendState = { _, _, request in first.receiveState(request).reply }
            let second = try node("n1", key: key, seeds: ["127.0.0.1:\(first.localAddress?.port ?? 0)"], sendState: send)
            first.withMachine { machine, _ in
                machine.publishFlist(flist, chunkCount: 1_000_000)
                machine.setHave(flist, stride(from: 0, to: 1_000_000, by: 2))
            }
            let id = first.withMachine { machine, _ in machine.me.id }
            try await running([second]) {
                try await soon { second.withMachine { machine, _ in machine.bitmap(of: id, flist)?.population } == 500_000 }
            }
        }
    }
}
