import ChunkModel
import ControlModel
import Foundation
import MeshKeys
import Minisign
import PeerExchange
import PeerProtocol
import Testing

@testable import Gossip
@testable import MeshNode
@testable import NodeConfiguration

extension MeshTests {
    /// Mesh keys that change and identities that are shut out, while the mesh runs.
    @Suite(.serialized) struct Keys {
        /// Gives every node a key file of its own.
        private func ownKeyFile(_ mesh: TestMesh, _ number: Int) throws -> String {
            let path = "\(mesh.directory)/key\(number)"
            let text = "# the mesh of berlin\n\(Base64.encode(TestMesh.key))\n\n# ask Ada before you change it\n"
            _ = FileManager.default.createFile(atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: 0o640])
            return path
        }

        private func withMesh(_ count: Int, admin: MinisignPublicKey? = nil, _ body: (TestMesh) async throws -> Void) async throws {
            try await TestMesh.with(nodes: 0) { mesh in
                for number in 0..<count {
                    let path = try ownKeyFile(mesh, number)
                    try await mesh.addNode {
                        $0.mesh.keyFile = path
                        $0.mesh.admin = admin
                    }
                }
                try await mesh.meet()
                try await body(mesh)
            }
        }

        private func keys(_ node: TestNode) -> [String] { node.node.strangers.keeper.fingerprints.map(\.description) }

        private func probesFailed(_ mesh: TestMesh) -> UInt64 {
            mesh.nodes.reduce(0) { $0 + $1.node.parts.gossip.counters().machine.probesFailed }
        }

        @Test func aRotationReachesAllNodesAndTheirFilesWithoutALostProbe() async throws {
            try await withMesh(3) { mesh in
                let (first, old) = (mesh.nodes[0].node, keys(mesh.nodes[0]))
                let failed = probesFailed(mesh)
                let list = try await first.meshKeys()
                #expect(list.nodes.count == 3 && list.nodes.allSatisfy { $0.keys == old } && list.rotating == nil)
                let report = try await first.rotateKeys(KeyRotation())
                #expect(report.done && report.problem == nil, "\(report)")
                #expect(report.steps.map(\.step) == [.install, .use, .remove] && report.steps.allSatisfy { $0.nodes.count == 3 })
                #expect(report.key != old[0])
                for (number, node) in mesh.nodes.enumerated() {
                    #expect(keys(node) == [report.key])
                    let path = "\(mesh.directory)/key\(number)"
                    let lines = try String(contentsOfFile: path, encoding: .utf8).components(separatedBy: "\n")
                    #expect(lines[0] == "# the mesh of berlin" && lines[3] == "# ask Ada before you change it")
                    #expect(try MeshKeyRing.load(file: path).fingerprints.map(\.description) == [report.key])
                    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
                    #expect(mode == 0o600)
                }
                #expect(probesFailed(mesh) == failed)
                // Chunks still move, and a node that starts again finds the others with its new key.
                let packed = try mesh.pack("image.fl", sizes: [10_000, 20_000])
                _ = try await mesh.nodes[1].node.open(packed.path)
                #expect(try await mesh.nodes[1].read("image.fl", "f0") == packed.files["f0"])
                try await mesh.nodes[2].restart()
                try await mesh.meet()
                #expect(probesFailed(mesh) == failed)
            }
        }

        @Test func stepsCanBeTakenOneByOneAndAgain() async throws {
            try await withMesh(2) { mesh in
                let node = mesh.nodes[0].node
                let old = keys(mesh.nodes[0])[0]
                await #expect(throws: NodeError.self) { try await node.rotateKeys(KeyRotation(step: .use)) }
                let installed = try await node.rotateKeys(KeyRotation(step: .install))
                #expect(mesh.nodes.allSatisfy { keys($0) == [old, installed.key] })
                #expect(try await node.rotateKeys(KeyRotation(step: .install)).key == installed.key, "the same one again")
                #expect(try await node.meshKeys().rotating == installed.key)
                let early = try await node.rotateKeys(KeyRotation(step: .remove))
                #expect(!early.done && mesh.nodes.allSatisfy { keys($0).count == 2 }, "the old one goes last")
                // The daemon stops between two steps.
                try await mesh.nodes[0].restart()
                try await mesh.meet()
                let used = try await mesh.nodes[0].node.rotateKeys(KeyRotation(step: .use))
                #expect(used.done && mesh.nodes.allSatisfy { keys($0) == [installed.key, old] })
                let all = try await mesh.nodes[0].node.rotateKeys(KeyRotation())
                #expect(all.done && all.key == installed.key && mesh.nodes.allSatisfy { keys($0) == [installed.key] })
                #expect(try await mesh.nodes[0].node.meshKeys().rotating == nil)
            }
        }

        @Test func theOldKeyStaysWhileAMemberIsAway() async throws {
            try await withMesh(3) { mesh in
                let away = mesh.nodes[2]
                let node = mesh.nodes[0].node
                await away.stop()
                let id = away.node.parts.identity.id
                try await eventually("its goodbye was heard") { node.parts.gossip.member(id)?.state == .left }
                // As if it had been killed, and found dead.
                node.parts.gossip.change { machine, _ in machine.members[id]?.state = .dead }
                let report = try await node.rotateKeys(KeyRotation())
                #expect(!report.done && report.away.map(\.name) == ["n2"])
                #expect(report.problem?.contains("n2") == true)
                #expect(mesh.nodes.prefix(2).allSatisfy { keys($0) == [report.key, keys(away)[0]] })
                // Back with the old key, it is brought up to date by going on.
                try await away.restart()
                try await mesh.meet()
                let rest = try await node.rotateKeys(KeyRotation())
                #expect(rest.done && mesh.nodes.allSatisfy { keys($0) == [report.key] }, "\(rest)")
            }
        }

        @Test func aNodeThatCannotWriteItsKeyFileIsNamedAndNothingIsLost() async throws {
            try await withMesh(2) { mesh in
                let old = keys(mesh.nodes[0])
                // What a file is renamed over must not be a directory: works for root too.
                let path = "\(mesh.directory)/key1"
                try FileManager.default.removeItem(atPath: path)
                let report = try await mesh.nodes[0].node.rotateKeys(KeyRotation())
                #expect(!report.done && report.steps.map(\.step) == [.install])
                #expect(report.problem?.contains("n1") == true)
                #expect(keys(mesh.nodes[1]) == old)
                _ = FileManager.default.createFile(
                    atPath: path, contents: Data((Base64.encode(TestMesh.key) + "\n").utf8), attributes: [.posixPermissions: 0o600])
                #expect(try await mesh.nodes[0].node.rotateKeys(KeyRotation()).done)
                #expect(mesh.nodes.allSatisfy { keys($0) == [report.key] })
            }
        }

        @Test func keysWithAnAdminChangeWithItsSignaturesOnly() async throws {
            let admin = MinisignSecretKey.generate()
            try await withMesh(2, admin: admin.publicKey) { mesh in
                let node = mesh.nodes[0].node
                let old = keys(mesh.nodes[0])[0]
                let refused = try await node.rotateKeys(KeyRotation())
                #expect(!refused.done && keys(mesh.nodes[1]) == [old])
                var signatures: [String: String] = [:]
                for (step, key) in [(KeyRotation.Step.install, refused.key), (.use, refused.key), (.remove, old)] {
                    let signature = try admin.sign(message: AdminText.step(step, key: key), untrustedComment: "", trustedComment: "")
                    signatures["\(step.rawValue) \(key)"] = String(decoding: signature.fileBytes, as: UTF8.self)
                }
                let report = try await node.rotateKeys(KeyRotation(signatures: signatures))
                #expect(report.done && mesh.nodes.allSatisfy { keys($0) == [refused.key] }, "\(report)")
            }
        }

        @Test func whoIsNotOnTheListIsNotLetInUntilAReloadAddsIt() async throws {
            try await withMesh(2) { mesh in
                let (first, second) = (mesh.nodes[0], mesh.nodes[1])
                var configuration = first.configuration
                configuration.mesh.allow = [NodeIdentity.random().id]
                #expect(try await first.node.reload(configuration).applied.contains("mesh.allow, mesh.admin"))
                try await eventually("the other one is forgotten") { await first.node.peers().peers.isEmpty }
                // It knocks in vain: by datagrams, and by the exchange.
                second.node.parts.gossip.perform { $0.join([NodeAddress("127.0.0.1:\(first.port)")!], now: $1) }
                let answer = await second.node.fetcher.exchange.ask(
                    PeerRequest(.message(kind: MessageKind.state.rawValue, payload: [])), first.node.parts.identity.id,
                    at: NodeAddress("127.0.0.1:\(first.port)")!, deadline: .seconds(5))
                guard case .failed = answer else { return #expect(Bool(false), "\(answer)") }
                try await eventually("it is counted") { await first.node.stats().strangers.notMembers > 1 }
                #expect(await first.node.peers().peers.isEmpty)
                configuration.mesh.allow = [second.node.parts.identity.id]
                _ = try await first.node.reload(configuration)
                try await eventually("it is back") { await first.node.peers().peers.first?.state == .alive }
            }
        }

        @Test func aRevocationHoldsWhereItIsGivenAndOverRestarts() async throws {
            try await withMesh(3) { mesh in
                let (first, second, third) = (mesh.nodes[0], mesh.nodes[1], mesh.nodes[2])
                let id = third.node.parts.identity.id.hex
                await #expect(throws: NodeError.self) { try await first.node.revoke(NodeRevocation(node: "00", issued: 1)) }
                #expect(try await first.node.revoke(NodeRevocation(node: id, issued: 1)).revoked.map(\.node) == [id])
                try await eventually("it is gone") { await first.node.peers().peers.map(\.name) == ["n1"] }
                #expect(await second.node.peers().peers.count == 2, "nobody else has to believe it")
                try await first.restart { $0.mesh.seeds = [HostPort(host: "127.0.0.1", port: second.port)] }
                try await eventually("the others are back") { await first.node.peers().peers.map(\.name) == ["n1"] }
                #expect(try await first.node.restore(id).revoked.isEmpty)
                try await mesh.meet()
                #expect(await first.node.peers().peers.count == 2)
            }
        }

        @Test func whatTheAdminRevokesIsRevokedEverywhere() async throws {
            let admin = MinisignSecretKey.generate()
            try await withMesh(3, admin: admin.publicKey) { mesh in
                let (first, second, third) = (mesh.nodes[0], mesh.nodes[1], mesh.nodes[2])
                let id = third.node.parts.identity.id.hex
                func revocation(_ key: MinisignSecretKey, of id: String) throws -> NodeRevocation {
                    let text = AdminText.revocation(of: id, issued: 7)
                    let signature = try key.sign(message: text, untrustedComment: "", trustedComment: "")
                    return NodeRevocation(node: id, issued: 7, signature: String(decoding: signature.fileBytes, as: UTF8.self))
                }
                let forged = try revocation(.generate(), of: id)
                await #expect(throws: NodeError.self) { try await first.node.revoke(forged) }
                _ = try await first.node.revoke(try revocation(admin, of: id))
                try await eventually("all have heard") {
                    for node in [first, second] where await node.node.peers().peers.count != 1 { return false }
                    return second.node.strangers.rules.all.count == 1
                }
                await #expect(throws: NodeError.self) { try await second.node.restore(id) }
                // Who comes later hears of it too, and keeps it.
                let path = try ownKeyFile(mesh, 3)
                let late = try await mesh.addNode {
                    $0.mesh.keyFile = path
                    $0.mesh.admin = admin.publicKey
                }
                try await eventually("the newcomer has heard") { late.node.strangers.rules.all.count == 1 }
                #expect(await !late.node.peers().peers.contains { $0.id == id })
                // A member cannot revoke another by itself, whatever list it offers.
                let liar = try FakePeer(seed: first.port) { request, responder in
                    guard case .message(let kind, _) = request.kind, kind == MessageKind.revocations.rawValue else {
                        return responder.missing()
                    }
                    let victim = second.node.parts.identity.id
                    responder.message(
                        RevocationSet.encode([Revocation(node: victim, issued: 1, proof: Array((forged.signature ?? "").utf8))]))
                }
                liar.set(MeshFacts.revocationsKey, [0, 1] + [UInt8](repeating: 9, count: 32))
                try await eventually("it was asked") { first.node.parts.gossip.member(liar.identity.id) != nil }
                try await Task.sleep(for: RevocationSpread.maxDelay * 2)
                #expect(first.node.strangers.rules.all.map(\.node.hex) == [id])
                await liar.stop()
            }
        }
    }
}
