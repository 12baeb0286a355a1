import ChunkModel
import Glibc
import Gossip
import Logging
import MeshKeys
import Testing

@testable import GossipTransport

extension GossipTransportTests {
    /// Who has no key, or only recordings of those who have one. Real sockets.
    @Suite struct Strangers {
        let tests = GossipTransportTests()

        /// A request of `node` for the whole state, caught on its way to somebody else: what it cost to send, and what comes back.
        private func recording(of node: GossipTransport, by wire: Wiretap) throws -> [UInt8] {
            node.perform { $0.join([wire.address], now: $1) }
            return try #require(wire.receive())
        }

        @Test func aStrangerGetsNoAnswerAtAll() async throws {
            let node = try tests.node("n0", key: tests.key)
            try await tests.running([node]) {
                let wire = try Wiretap()
                let target = try #require(node.localAddress)
                // Also sealed with a key of his own, in all the forms that the protocol has.
                let other = try #require(MeshKeyRing(keys: [MeshKeyRing.randomKey()]))
                for kind in 0...3 {
                    wire.send(other.seal([UInt8(kind)] + [UInt8](repeating: 1, count: 40), context: DatagramSeal.context), to: target)
                }
                for size in [0, 1, 39, 40, 57, 65, 1_400] { wire.send(Sodium.randomBytes(size), to: target) }
                try await tests.soon { node.counters().transport.foreign == 11 }
                #expect(wire.receive(within: 300) == nil)
                #expect(node.counters().machine.datagramsSent == 0)
            }
        }

        @Test func aRecordingFromAnotherAddressMovesNothing() async throws {
            let nodes = [try tests.node("n0", key: tests.key), try tests.node("n1", key: tests.key)]
            try await tests.running(nodes) {
                let target = try #require(nodes[0].localAddress)
                nodes[1].perform { $0.join([target], now: $1) }
                try await tests.soon { nodes.allSatisfy { tests.alive($0).count == 1 } }
                let (wire, player) = (try Wiretap(), try Wiretap())
                let recorded = try recording(of: nodes[1], by: wire)
                let exchanges = nodes[0].withMachine { machine, _ in machine.members.count }
                for _ in 0..<20 { player.send(recorded, to: target) }
                try await tests.soon { nodes[0].counters().transport.held >= 20 }
                // The player is asked to prove that it is the sender: by less than it sent, and no more than once or twice.
                var answers = 0
                while let answer = player.receive(within: 300) {
                    #expect(answer.count <= recorded.count)
                    answers += 1
                }
                #expect((1...3).contains(answers))
                #expect(nodes[0].withMachine { machine, _ in machine.members.count } == exchanges)
            }
        }

        @Test func aRecordingIsWorthNothingAfterARestart() async throws {
            let wire = try Wiretap()
            var recordings: [[UInt8]] = []
            let (first, second) = (try tests.node("n0", key: tests.key), try tests.node("n1", key: tests.key))
            try await tests.running([first, second]) {
                recordings.append(try recording(of: second, by: wire))
                // An answer to a challenge too: it is worth as little.
                let target = try #require(first.localAddress)
                wire.send(recordings[0], to: target)
                let challenge = try #require(wire.receive())
                wire.send(challenge, to: try #require(second.localAddress))
                recordings.append(try #require(wire.receive()))
            }
            let again = try tests.node("n0", key: tests.key)
            try await tests.running([again]) {
                let target = try #require(again.localAddress)
                for recorded in recordings + recordings { wire.send(recorded, to: target) }
                try await tests.soon { again.counters().transport.held + again.counters().transport.replayed == 4 }
                #expect(again.counters().machine.datagramsReceived == 0)
                #expect(again.members().isEmpty)
            }
        }

        @Test func floodsOfRecordingsFromManyPlacesKeepNobodyOut() async throws {
            let (first, second) = (try tests.node("n0", key: tests.key), try tests.node("n1", key: tests.key))
            try await tests.running([first, second]) {
                let target = try #require(first.localAddress)
                let recorded = try recording(of: second, by: try Wiretap())
                // From more places than the node keeps datagrams of.
                for _ in 0..<2 * DatagramSeal.maxWaiting { try Wiretap().send(recorded, to: target) }
                second.perform { $0.join([target], now: $1) }
                try await tests.soon { tests.alive(first) == ["n1"] && tests.alive(second) == ["n0"] }
            }
        }

        @Test func aMemberThatFloodsIsCutToItsShare() async throws {
            let (first, second) = (try tests.node("n0", key: tests.key, perSecond: 50), try tests.node("n1", key: tests.key))
            try await tests.running([first, second]) {
                let target = try #require(first.localAddress)
                second.perform { $0.join([target], now: $1) }
                try await tests.soon { tests.alive(first) == ["n1"] }
                second.perform { machine, _ in (0..<300).map { _ in .send(to: target, machine.announcement()) } }
                try await tests.soon { first.counters().transport.flooded > 0 }
                #expect(first.members().first?.state == .alive)
            }
        }

        @Test func keysChangeUnderAMeshThatGossips() async throws {
            let new = MeshKeyRing.randomKey()
            let both = try #require(MeshKeyRing(keys: [tests.key])?.installing(new))
            let nodes = try (0..<3).map { try tests.node("n\($0)", key: tests.key) }
            try await tests.running(nodes) {
                let target = try #require(nodes[0].localAddress)
                for node in nodes.dropFirst() { node.perform { $0.join([target], now: $1) } }
                try await tests.soon { nodes.allSatisfy { tests.alive($0).count == 2 } }
                for node in nodes { node.setRing(both) }
                for node in nodes {
                    node.setRing(try #require(both.using(both.fingerprints[1])))
                    try await Task.sleep(for: .milliseconds(300))
                }
                for node in nodes { node.setRing(try #require(MeshKeyRing(keys: [new]))) }
                let before = nodes.map { $0.counters().machine.datagramsReceived }
                try await tests.soon { zip(nodes, before).allSatisfy { $0.counters().machine.datagramsReceived > $1 + 3 } }
                #expect(nodes.allSatisfy { $0.counters().machine.probesFailed == 0 && $0.counters().transport.foreign == 0 })
            }
        }
    }
}

@Suite struct ForeignLimitTests {
    let key = MeshKeyRing(keys: [MeshKeyRing.randomKey()])!.fingerprints[0]
    func source(_ host: UInt8, _ port: UInt16) -> NodeAddress { NodeAddress(ip: [10, 0, 0, host], port: port)! }

    @Test func aHostIsLimitedWhateverPortsItUses() {
        var limit = ForeignLimit()
        for port in 1...UInt16(ForeignLimit.triesPerSecond) { limit.noteFailed(source(1, port)) }
        #expect(limit.verdict(on: source(1, 60_000), now: 0) == .drop)
        #expect(limit.verdict(on: source(2, 1), now: 0) == .tryAll)
        #expect(limit.verdict(on: source(1, 1), now: 1_000_000_000) == .tryAll)
    }

    @Test func allUnknownHostsTogetherAreLimited() {
        var limit = ForeignLimit()
        _ = limit.verdict(on: source(0, 1), now: 0)
        for i in 0..<ForeignLimit.allTriesPerSecond { limit.noteFailed(source(UInt8(i % 250), 1)) }
        #expect(limit.verdict(on: source(251, 1), now: 0) == .drop)
    }

    @Test func whoIsKnownIsNotSilencedByGarbageInItsName() {
        var limit = ForeignLimit()
        limit.noteAccepted(source(1, 1), key: key, now: 0)
        for _ in 0..<10_000 { limit.noteFailed(source(1, 1)) }
        #expect(limit.verdict(on: source(1, 1), now: 0) == .tryOne(key))
    }
}
