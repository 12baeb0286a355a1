import ChunkModel
import Gossip
@testable import MeshSimulation
import MeshKeys
import Testing

/// Several sites in one mesh, under virtual time. Failing cases print their seed.
@Suite struct SitesSimulation {
    static let second: UInt64 = 1_000_000_000
    static let flist = FlistDigest(Bytes32([UInt8](repeating: 5, count: 32))!)

    /// Sites "a", "b", … of these sizes, whose nodes stand one after the other. Each joins its own first node; those first nodes know
    /// the first node of the first site.
    private func mesh(_ sizes: [Int], seed: UInt64, loss: Int = 0) -> GossipSimulator {
        let names = sizes.enumerated().flatMap { place, size in [String](repeating: String(UnicodeScalar(UInt8(97 + place))), count: size) }
        var mesh = GossipSimulator(count: names.count, seed: seed, network: .init(loss: loss)) { names[$0] }
        var first = 0
        for (place, size) in sizes.enumerated() {
            for i in first + 1..<first + size { mesh.with(i) { $0.join([GossipSimulator.address(first)], now: $1) } }
            if place > 0 { mesh.with(first) { $0.join([GossipSimulator.address(0)], now: $1) } }
            first += size
        }
        return mesh
    }

    private func nodes(of site: String, in mesh: GossipSimulator) -> [Int] { mesh.nodes.indices.filter { mesh.site($0) == site } }

    /// Every running node reaches all sites but its own, and names only their live gateways.
    private func allSitesMeet(_ mesh: GossipSimulator) -> Bool {
        let names = Set(mesh.running.map(mesh.site))
        let elected = Dictionary(
            uniqueKeysWithValues: names.map { name in
                (name, Set(mesh.running.first { mesh.site($0) == name }.map { mesh.nodes[$0].machine.gateways.map(\.id) } ?? []))
            })
        return mesh.running.allSatisfy { i in
            let others = mesh.nodes[i].machine.otherSites.filter(\.isReachable)
            return Set(others.map(\.name)) == names.subtracting([mesh.site(i)])
                && others.allSatisfy { Set($0.gateways.map(\.id)).isSubset(of: elected[$0.name] ?? []) && !$0.gateways.isEmpty }
        }
    }

    @Test(arguments: [(0, 1), (100, 3)] as [(Int, UInt64)])
    func sitesFindEachOtherAndStayByThemselves(loss: Int, seed: UInt64) throws {
        var mesh = mesh([8, 4, 12], seed: seed, loss: loss)
        let time = try #require(mesh.run(within: 90 * Self.second, step: Self.second / 2) { allSitesMeet($0) }, "seed \(seed)")
        print("sites meet, loss \(loss)‰ seed \(seed): \(time / 1_000_000) ms")
        mesh.run(for: 30 * Self.second)
        for i in mesh.nodes.indices {
            let own = Set(nodes(of: mesh.site(i), in: mesh).map(GossipSimulator.id)).subtracting([GossipSimulator.id(i)])
            #expect(Set(mesh.nodes[i].machine.members.keys).isSubset(of: own), "node \(i), seed \(seed)")
        }
        for site in ["a", "b", "c"] {
            let known = nodes(of: site, in: mesh)
            // All of a site elect the same few.
            if loss == 0 {
                #expect(Set(known.map { Set(mesh.nodes[$0].machine.gateways.map(\.id)) }).count == 1)
                #expect(known.count { mesh.nodes[$0].machine.isGateway } == 2)
                #expect(known.allSatisfy { mesh.nodes[$0].machine.members.count == known.count - 1 })
            }
        }
        let shown = mesh.nodes[3].machine.otherSites
        #expect(shown.map(\.nodes) == [4, 12] || loss > 0, "\(shown)")
        #expect(shown.allSatisfy { $0.roundTrip != nil })
    }

    /// What a site of eight sends across does not depend on how large the others are.
    @Test func bytesBetweenSitesAreFewAndDoNotGrowWithTheSites() {
        var perSecond: [Int] = []
        var own: [Int] = []
        for size in [4, 16] {
            var mesh = mesh([8, size, size], seed: 7)
            mesh.run(for: 40 * Self.second)
            let before = (mesh.bytesAcross["a"] ?? 0, mesh.nodes[3].bytesSent)
            mesh.run(for: 100 * Self.second)
            perSecond.append(((mesh.bytesAcross["a"] ?? 0) - before.0) / 100)
            own.append((mesh.nodes[3].bytesSent - before.1) / 100)
        }
        print("site of 8 beside two of 4, and two of 16: \(perSecond) bytes a second across, \(own) sent by one node")
        #expect(perSecond.allSatisfy { $0 <= 200 })
        #expect(perSecond[1] <= perSecond[0] * 3 / 2 + 20)
        #expect(own[1] <= own[0] * 5 / 4 + 20)
    }

    @Test(arguments: [UInt64(11), 12]) func theNextNodeTakesOverForADeadGateway(seed: UInt64) throws {
        var mesh = mesh([6, 6, 6], seed: seed)
        _ = try #require(mesh.run(within: 60 * Self.second) { allSitesMeet($0) }, "seed \(seed)")
        // Both at once: nobody of those who spoke with others is left.
        let gone = nodes(of: "b", in: mesh).filter { mesh.nodes[$0].machine.isGateway }
        #expect(gone.count == 2)
        for i in gone { mesh.crash(i) }
        let time = try #require(
            mesh.run(within: 60 * Self.second, step: Self.second / 2) { mesh in
                let elected = Set(mesh.running.first { mesh.site($0) == "b" }.map { mesh.nodes[$0].machine.gateways.map(\.id) } ?? [])
                return elected.isDisjoint(with: gone.map(GossipSimulator.id))
                    && mesh.running.filter { mesh.site($0) != "b" }.allSatisfy { i in
                        let other = mesh.nodes[i].machine.otherSites.first { $0.name == "b" }
                        return other?.isReachable == true && Set(other?.gateways.map(\.id) ?? []) == elected
                    }
            }, "seed \(seed)")
        print("both gateways of a site replaced, seed \(seed): \(time / 1_000_000) ms")
        // Detection, and one hello interval where the first hello after it found nobody.
        #expect(time <= 50 * Self.second)
    }

    @Test(arguments: [UInt64(21), 22]) func sitesFindEachOtherAfterASplit(seed: UInt64) throws {
        var mesh = mesh([4, 4, 4], seed: seed)
        _ = try #require(mesh.run(within: 60 * Self.second) { allSitesMeet($0) }, "seed \(seed)")
        let alone = nodes(of: "c", in: mesh)
        for i in alone { mesh.nodes[i].side = 1 }
        mesh.run(for: 300 * Self.second)
        for i in mesh.nodes.indices {
            let silent = mesh.nodes[i].machine.otherSites.filter { !$0.isReachable }.map(\.name)
            #expect(Set(silent).isSuperset(of: alone.contains(i) ? ["a", "b"] : ["c"]), "node \(i), seed \(seed)")
        }
        // The gateways of today were none when the line went.
        for i in alone.filter({ mesh.nodes[$0].machine.isGateway }) { mesh.crash(i) }
        mesh.run(for: 60 * Self.second)
        for i in alone { mesh.nodes[i].side = 0 }
        let time = try #require(mesh.run(within: 120 * Self.second, step: Self.second / 2) { allSitesMeet($0) }, "seed \(seed)")
        print("sites meet after a split of 360 s, seed \(seed): \(time / 1_000_000) ms")
    }

    @Test(arguments: [UInt64(31), 32]) func aNodeFindsOutWhatAnotherSiteHolds(seed: UInt64) throws {
        var mesh = mesh([8, 8], seed: seed)
        _ = try #require(mesh.run(within: 60 * Self.second) { allSitesMeet($0) }, "seed \(seed)")
        let holders = nodes(of: "b", in: mesh)
        for (place, i) in holders.enumerated() {
            mesh.edit(i) { $0.publishFlist(Self.flist, chunkCount: 500_000) }
            mesh.edit(i) { $0.setHave(Self.flist, place * 25_000..<(place + 1) * 25_000) }
        }
        mesh.run(for: 10 * Self.second)
        let before = mesh.bytesAcross
        let seekers = nodes(of: "a", in: mesh)
        for i in seekers { mesh.with(i) { $0.seek([Self.flist], at: .any, now: $1) } }
        #expect(seekers.allSatisfy { mesh.nodes[$0].machine.awaitsSites(of: Self.flist, at: .any) })
        let time = try #require(
            mesh.run(within: 5 * Self.second) { mesh in
                seekers.allSatisfy { i in
                    mesh.nodes[i].machine.siteHolders(of: Self.flist, 199_999, at: .only(["b"])).count == 2
                        && mesh.nodes[i].machine.siteHolders(of: Self.flist, 200_000, at: .any).isEmpty
                        && mesh.nodes[i].machine.siteHolders(of: Self.flist, 0, at: .only(["c"])).isEmpty
                        && !mesh.nodes[i].machine.awaitsSites(of: Self.flist, at: .any)
                }
            }, "seed \(seed)")
        print("eight nodes know what the other site holds, seed \(seed): \(time / 1_000_000) ms")
        #expect(time <= Self.second)
        // What changes there is known some seconds later.
        mesh.edit(holders[0]) { $0.setHave(Self.flist, [377_777]) }
        _ = try #require(
            mesh.run(within: 20 * Self.second) { mesh in
                seekers.allSatisfy { !mesh.nodes[$0].machine.siteHolders(of: Self.flist, 377_777, at: .any).isEmpty }
            }, "seed \(seed)")
        mesh.run(for: 40 * Self.second)
        let across = (mesh.bytesAcross["b"] ?? 0) - (before["b"] ?? 0)
        print("a site told another of eight holders: \(across) bytes in a minute")
        #expect(across <= 40_000)
        // Nobody renews the demand: it ends, and the bitmaps with it.
        mesh.run(for: 100 * Self.second)
        #expect(seekers.allSatisfy { mesh.nodes[$0].machine.siteBitmap(of: "b", Self.flist) == nil })
    }
}
