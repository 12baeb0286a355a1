import ChunkModel
import MeshKeys
import Testing

@testable import Gossip
@testable import MeshSimulation

/// The figures of scale in sites small enough for a debug build; scripts/simulate asks for the same with a thousand nodes.
@Suite struct GossipScaleSimulation {
    static let second: UInt64 = 1_000_000_000

    private func scenario(_ nodes: Int, loss: Int = 0, seed: UInt64 = 1) -> GossipScenario {
        var scenario = GossipScenario()
        (scenario.nodes, scenario.loss, scenario.seed) = (nodes, loss, seed)
        return scenario
    }

    /// Two runs of one seed do the same, though dictionaries differ from run to run.
    @Test func oneSeedIsOneHistory() {
        func history() -> ([String], [Int]) {
            var site = scenario(24, loss: 200, seed: 5).simulator()
            site.joinAll()
            site.run(for: 20 * Self.second)
            site.crash(3)
            site.run(for: 20 * Self.second)
            return (site.events.map { "\($0.time) \($0.node) \($0.event)" }, site.nodes.map(\.bytesSent))
        }
        let (first, second) = (history(), history())
        #expect(first.0 == second.0)
        #expect(first.1 == second.1)
        #expect(first.0.count > 24)
    }

    @Test func aDeathIsKnownToAllWithinTenSecondsWithATenthOfTheDatagramsLost() {
        let result = scenario(96, loss: 100).detect(kills: 2)
        print("detection N=96: p50 \(result.members.p50), most \(result.last.most) s")
        #expect(result.missed == 0 && result.falseDeaths == 0)
        #expect(result.last.most <= 10)
    }

    @Test func aSiteThatStartsAtOnceKnowsItselfWithinFiveSeconds() throws {
        let result = scenario(128).boot()
        print("boot N=128: \(result.all ?? -1) s, \(result.bytesPerNode) bytes a node")
        #expect(try #require(result.all) <= 5)
    }

    @Test func whatANodeThatJoinsHoldsIsKnownWithinFiveSeconds() {
        let result = scenario(24).join(chunks: 1_000_000, runs: 1)
        print("join N=24 with 1,000,000 chunks: \(result.known.most) s")
        #expect(result.missed == 0)
        #expect(result.known.most <= 5)
    }

    /// Everybody changes all the time: traffic stays within the budget, and all is exact soon after the last change.
    @Test func aBusySiteStaysWithinItsBudget() throws {
        let scenario = scenario(48)
        let result = scenario.availability(every: Self.second / 4, for: 20 * Self.second, chunks: 4_000)
        let rate = result.traffic.bytesPerNodeAndSecond.most
        print("busy N=48: \(rate) bytes/s, heard p50 \(result.heard.p50) s, exact after \(result.exactAfter ?? -1) s")
        #expect(rate <= Double(scenario.configuration.contentBytesPerSecond) * 1.3 + 1_500)
        #expect(try #require(result.exactAfter) <= 45)
    }

    /// The periodic comparison of two nodes that know the same thousand members is one datagram; where one member differs, its share.
    @Test func comparingEqualStatesCostsOneDatagramAtAnySize() throws {
        var site = GossipSimulator(count: 1_000, seed: 3)
        for asker in [0, 1] {
            for i in site.nodes.indices where i != asker {
                let (announcement, address) = (site.nodes[i].machine.announcement(), site.nodes[i].address)
                _ = site.nodes[asker].machine.receive(announcement, from: address, now: site.now)
            }
        }
        let message = site.nodes[0].machine.stateHashMessage
        #expect(message.count <= 300)
        func answer(_ i: Int, _ messages: [UInt8]) -> Int {
            let out = site.nodes[1].machine.receive(site.nodes[i].machine.header + messages, from: site.nodes[i].address, now: site.now)
            return out.reduce(0) { if case .send(_, let bytes) = $1 { $0 + bytes.count } else { $0 } }
        }
        #expect(answer(0, message) == 0)
        // Node 1 alone heard something new of a third one.
        var seven = site.nodes[7].machine.me
        seven.incarnation += 1
        _ = answer(7, MemberClaim(.alive, seven, by: seven.id).message)
        let asked = answer(0, message)
        #expect(asked > 0 && asked < 8_000)
    }
}
