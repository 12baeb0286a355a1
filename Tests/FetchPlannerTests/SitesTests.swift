import ChunkModel
import FetchPlanner
import MeshKeys
import Testing

/// Chunks that nobody here holds, and another site does.
@Suite struct SitesTests {
    private let gateways = someNodes(2, seed: 77)

    private func stage(_ id: ChunkID, at places: Int = 4) -> Stage {
        var stage = Stage(places: places)
        stage.mesh.sites[id] = gateways
        stage.mesh.siteOwners = stage.mesh.owners
        return stage
    }

    @Test func `the owner asks the other site, not upstream`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: true)[0]
        stage = self.stage(id)
        let actions = stage.want(id)
        #expect(actions.compactMap(\.fetched).isEmpty)
        #expect(actions.compactMap(\.asked).map(\.mode) == [.site] && actions.compactMap(\.asked).map(\.node) == [gateways[0]])
    }

    @Test func `who is not the owner asks the owner`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: false)[0]
        stage = self.stage(id)
        let asked = stage.want(id).compactMap(\.asked)
        #expect(asked.map(\.mode) == [.fetch] && asked.map(\.node) == [stage.ranking(id)[0]])
    }

    @Test func `a holder here comes before the other site`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: true)[0]
        stage = self.stage(id)
        stage.mesh.holders[id] = [stage.others[1]]
        #expect(stage.want(id).compactMap(\.asked).map(\.node) == [stage.others[1]])
    }

    @Test func `a peer that asks the owner gets it by way of the other site, also where no hub is reached`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: true)[0]
        stage = self.stage(id)
        stage.mesh.owners = []
        let (answer, actions) = stage.wantForPeer(id)
        #expect(answer == .joined && actions.compactMap(\.asked).map(\.mode) == [.site])
    }

    @Test func `one gateway that fails gives way to the other, and both to upstream`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: true)[0]
        stage = self.stage(id)
        let first = stage.want(id).compactMap(\.asked)[0]
        let second = stage.answer(first.tag, .failed).compactMap(\.asked)
        #expect(second.map(\.node) == [gateways[1]] && second.map(\.mode) == [.site])
        #expect(stage.answer(second[0].tag, .upstreamFailed).compactMap(\.fetched) == [id])
    }

    @Test func `what the site does not have any more is said to be gone, and comes from upstream`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: true)[0]
        stage = self.stage(id)
        let first = stage.want(id).compactMap(\.asked)[0]
        let actions = stage.answer(first.tag, .missing)
        #expect(actions.first == .dropStaleClaim(gateways[0], id))
        #expect(stage.answer(actions.compactMap(\.asked).first?.tag, .missing).compactMap(\.fetched) == [id])
    }

    @Test func `a full gateway is waited for, upstream is not taken in its place`() {
        var stage = Stage()
        let ids = stage.chunks(12, mine: true)
        for id in ids { stage.mesh.sites[id] = [gateways[0]] }
        stage.mesh.siteOwners = stage.mesh.owners
        let asked = ids.flatMap { stage.want($0) }
        #expect(asked.compactMap(\.asked).count == stage.planner.limits.transfersPerPeer && asked.compactMap(\.fetched).isEmpty)
        stage.now += .milliseconds(30)
        let next = stage.answer(asked.compactMap(\.asked)[0].tag, .received)
        #expect(next.compactMap(\.asked).map(\.mode) == [.site])
    }

    @Test func `upstream is taken where it was clearly quicker of late, and the site is tried anew after a while`() {
        var stage = Stage()
        let ids = stage.chunks(5, mine: true)
        stage.mesh.siteOwners = stage.mesh.owners
        // Upstream takes 20 ms for a chunk, the site two seconds.
        _ = stage.want(ids[0])
        stage.now += .milliseconds(20)
        _ = stage.arrived(ids[0])
        for id in ids { stage.mesh.sites[id] = [gateways[0]] }
        let slow = stage.want(ids[1]).compactMap(\.asked)
        #expect(slow.map(\.mode) == [.site])
        stage.now += .seconds(2)
        _ = stage.answer(slow[0].tag, .received)
        _ = stage.arrived(ids[1])
        #expect(stage.want(ids[2]).compactMap(\.fetched) == [ids[2]])
        stage.now += .milliseconds(20)
        _ = stage.arrived(ids[2])
        // Without a hub the slow one is better than none.
        let owners = stage.mesh.owners
        stage.mesh.owners = []
        #expect(stage.want(ids[3]).compactMap(\.asked).map(\.mode) == [.site])
        stage.mesh.owners = owners
        stage.now += stage.planner.limits.costMemory
        #expect(stage.want(ids[4]).compactMap(\.asked).map(\.mode) == [.site])
    }

    @Test func `a reader does not wait long for a gateway that says nothing`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: true)[0]
        stage = self.stage(id)
        stage.mesh.sites[id] = [gateways[0]]
        #expect(stage.want(id, .foreground).compactMap(\.asked).map(\.mode) == [.site])
        let actions = stage.tick(after: stage.planner.limits.foregroundSitePatience + .milliseconds(1))
        #expect(actions.compactMap(\.fetched) == [id])
    }

    @Test func `while it is being found out what sites hold, nothing goes upstream`() {
        var stage = Stage()
        let id = stage.chunks(1, mine: true)[0]
        stage.mesh.awaits = true
        #expect(stage.want(id).isEmpty)
        #expect(stage.tick(after: .milliseconds(200)).isEmpty)
        stage.mesh.awaits = false
        #expect(stage.untilAction(within: .seconds(1)).compactMap(\.fetched) == [id])
    }
}
