import ChunkModel
import ControlModel
import FetchPlanner
import Foundation
import Minisign
import PeerProtocol
import Testing

@testable import MeshNode
@testable import NodeConfiguration

extension MeshTests {
    /// Signed flists: `trust.keys` and `trust.requireSigned`, and how signatures travel.
    @Suite(.serialized) struct Signatures {
        let key = MinisignSecretKey.generate()
        let stranger = MinisignSecretKey.generate()

        private var trust: (inout Configuration) -> Void { { [key] in $0.trust = .init(keys: [key.publicKey]) } }
        private var strict: (inout Configuration) -> Void {
            { [key] in $0.trust = .init(keys: [key.publicKey], requireSigned: true) }
        }

        /// Nodes with these settings that know each other.
        private func with(
            _ nodes: [(inout Configuration) -> Void], _ body: (TestMesh) async throws -> Void
        ) async throws {
            try await TestMesh.with(nodes: 0) { mesh in
                for change in nodes { try await mesh.addNode(change) }
                try await mesh.meet()
                try await body(mesh)
            }
        }

        private func refused(_ reason: String, _ place: SourceLocation = #_sourceLocation, _ body: () async throws -> KnownFlist) async {
            do {
                let known = try await body()
                Issue.record("opened: \(known)", sourceLocation: place)
            } catch {
                #expect("\(error)".contains(reason) && !"\(error)".contains("\n"), "\(error)", sourceLocation: place)
            }
        }

        // MARK: One node

        @Test func ofALocalFileItsNeighbourIsTheSignature() async throws {
            try await with([strict, trust, { _ in }]) { mesh in
                let (strict, trusting, plain) = (mesh.nodes[0], mesh.nodes[1], mesh.nodes[2])
                let packed = try mesh.pack("image.fl", sizes: [1000])
                await refused("image.fl is not signed; trust.requireSigned refuses it") { try await strict.node.open(packed.path) }
                #expect(try await trusting.node.open(packed.path).signature == nil)
                _ = try await trusting.node.forget("image.fl")

                try packed.sign(stranger)
                await refused("is signed with the key \(stranger.publicKey.id), which is none of trust.keys") {
                    try await strict.node.open(packed.path)
                }
                let unknown = FlistSigner(key: "\(stranger.publicKey.id)", trusted: false)
                #expect(try await trusting.node.open(packed.path).signature == unknown, "counts as unsigned")
                #expect(try await plain.node.open(packed.path).signature == unknown)
                for node in [trusting, plain] { _ = try await node.node.forget("image.fl") }

                // Of another file; changed; no signature at all.
                let other = try mesh.pack("other.fl", sizes: [1000], seed: 2)
                try other.sign(key)
                let good = try Data(contentsOf: URL(fileURLWithPath: other.path + ".minisig"))
                for (bytes, reason) in [
                    (good, "image.fl: the signature is wrong: these are not the bytes that the key \(key.publicKey.id) signed"),
                    (
                        Data(String(decoding: good, as: UTF8.self).replacingOccurrences(of: "for a test", with: "for a rest").utf8),
                        "trusted comment"
                    ),
                    (Data("hello\n".utf8), "image.fl.minisig: not a signature of minisign: it has 1 lines, not 4"),
                    (Data(count: 5000), "larger than the 4096 bytes"),
                ] {
                    try bytes.write(to: URL(fileURLWithPath: packed.path + ".minisig"))
                    for node in [strict, trusting] { await refused(reason) { try await node.node.open(packed.path) } }
                }
                for node in [strict, trusting] { #expect(try node.node.files.list().isEmpty, "what was refused is not kept") }
                #expect(try FileManager.default.contentsOfDirectory(atPath: strict.node.files.directory) == ["tmp"])
                // Who trusts nobody looks at no signature, and lets no broken one stop him.
                #expect(try await plain.node.open(packed.path).signature == nil)

                try packed.sign(key, trusted: "for a\ttest")
                let signed = FlistSigner(key: "\(key.publicKey.id)", trusted: true, comment: "\"for a\\ttest\"")
                for node in [strict, trusting] {
                    #expect(try await node.node.open(packed.path).signature == signed)
                    #expect(try await node.node.status(of: "image.fl").flists[0].signature == signed)
                    #expect(
                        try await node.node.signature("image.fl")
                            == [UInt8](Data(contentsOf: URL(fileURLWithPath: packed.path + ".minisig"))))
                    #expect(try await node.read("image.fl", "f0") == packed.files["f0"])
                }
            }
        }

        @Test func onAHubItIsAskedForOnlyWhereItCounts() async throws {
            try await with([{ _ in }]) { mesh in
                let node = mesh.nodes[0]
                let packed = try mesh.pack("image.fl", sizes: [1000])
                try packed.sign(key)
                #expect(try await node.node.open(packed.url).signature == nil)
                #expect(mesh.hub.requests("/image.fl.minisig") == 0)
                // The flist has not changed, the node has: it looks for the signature now.
                try await node.restart(trust)
                #expect(try await node.node.open(packed.url).signature?.trusted == true)
                #expect(mesh.hub.requests("/image.fl.minisig") == 1 && mesh.hub.revalidated == 1)
                try await node.restart()
                #expect(try await node.node.open(packed.url).signature?.trusted == true)
                #expect(mesh.hub.requests("/image.fl.minisig") == 1, "it is kept")

                try await node.restart(strict)
                #expect(try await node.read("image.fl", "f0") == packed.files["f0"])
                let unsigned = try mesh.pack("unsigned.fl", sizes: [1000], seed: 2)
                await refused("unsigned.fl is not signed") { try await node.node.open(unsigned.url) }
                try Data("<html>not found</html>".utf8).write(to: URL(fileURLWithPath: unsigned.path + ".minisig"))
                await refused("unsigned.fl.minisig on the hub: not a signature") { try await node.node.open(unsigned.url) }
                #expect(try node.node.files.list().count == 1)
            }
        }

        @Test func restoredFlistsAreLookedAtAgain() async throws {
            try await with([{ _ in }]) { mesh in
                let node = mesh.nodes[0]
                let (signed, unsigned) = (try mesh.pack("a.fl", sizes: [1000]), try mesh.pack("b.fl", sizes: [1000], seed: 2))
                try signed.sign(key)
                for packed in [signed, unsigned] {
                    _ = try await node.node.open(packed.path)
                    let job = try await node.node.prefetch(PrefetchRequest(flist: packed.name, scope: .node, pin: true))
                    _ = try await node.finished(job)
                }
                try await node.restart(strict)
                let status = try await node.node.status(of: nil)
                #expect(status.flists.map(\.name) == ["a.fl"] && status.flists[0].signature?.trusted == true)
                #expect(try node.node.files.list().count == 1)
                // A signature that was changed on the disk is none.
                let digest = try #require(FlistDigest(hex: status.flists[0].digest))
                await node.stop()
                let file = "\(node.node.files.directory)/\(digest.hex).minisig"
                let text = try String(contentsOfFile: file, encoding: .utf8).replacingOccurrences(of: "for a test", with: "for a rest")
                try text.write(toFile: file, atomically: true, encoding: .utf8)
                try await node.restart()
                #expect(try await node.node.status(of: nil).flists.isEmpty && node.node.files.list().isEmpty)
            }
        }

        @Test func aReloadOfTrustCountsAtOnce() async throws {
            try await with([{ _ in }]) { mesh in
                let node = mesh.nodes[0]
                let (signed, unsigned) = (try mesh.pack("a.fl", sizes: [1000]), try mesh.pack("b.fl", sizes: [1000], seed: 2))
                try signed.sign(key)
                for packed in [signed, unsigned] { _ = try await node.node.open(packed.path) }
                #expect(try await node.node.status(of: "a.fl").flists[0].signature?.trusted == false)
                var configuration = node.configuration
                trust(&configuration)
                #expect(try await node.node.reload(configuration).applied == ["trust"])
                #expect(try await node.node.status(of: nil).flists.map { $0.signature?.trusted } == [true, nil])
                strict(&configuration)
                let changes = try await node.node.reload(configuration)
                #expect(changes.applied == ["trust"] && changes.needRestart.isEmpty)
                #expect(try await node.node.status(of: nil).flists.map(\.name) == ["a.fl"])
                #expect(try node.node.files.list().count == 1)
                configuration.trust = .init(keys: [stranger.publicKey])
                _ = try await node.node.reload(configuration)
                #expect(try await node.node.status(of: nil).flists.map { $0.signature?.trusted } == [false])
            }
        }

        // MARK: Through the mesh

        @Test func itTravelsThroughNodesThatDoNotKnowTheKey() async throws {
            try await with([{ _ in }, { _ in }, strict]) { mesh in
                let (first, second, strict) = (mesh.nodes[0], mesh.nodes[1], mesh.nodes[2])
                let packed = try mesh.pack("image.fl", sizes: [Int](repeating: 3000, count: 5))
                try packed.sign(key)
                let known = try await first.node.open(packed.path)
                let digest = try #require(FlistDigest(hex: known.digest))
                try await eventually("the flist is announced") { !second.node.parts.gossip.nodes(knowing: digest).isEmpty }
                #expect(try await second.node.open(known.digest).signature == known.signature)
                await first.stop()
                try await eventually("the third node hears of it from the second") {
                    strict.node.parts.gossip.nodes(knowing: digest).contains { $0.member.name == "n1" }
                }
                #expect(try await strict.node.open("image.fl").signature?.trusted == true)
                // Signed by somebody trusted: the hub that it names may be opened, though only a peer had it.
                let entry = try #require(strict.node.parts.flists.entry(digest))
                #expect(!entry.record.isVouched && entry.record.mayOpenRoutes && strict.node.parts.upstream.hasWay(for: digest))
                #expect(!second.node.parts.upstream.hasWay(for: digest))
                for (name, bytes) in packed.files { #expect(try await strict.read("image.fl", name) == bytes) }
                #expect(strict.upstreamChunks == 5)
            }
        }

        @Test func aPrefetchOfAnotherNodeIsNoWayAround() async throws {
            try await with([{ _ in }, strict]) { mesh in
                let (other, strict) = (mesh.nodes[0], mesh.nodes[1])
                let (signed, unsigned) = (try mesh.pack("a.fl", sizes: [1000]), try mesh.pack("b.fl", sizes: [1000], seed: 2))
                try signed.sign(key)
                let refusedOne = try await other.node.prefetch(PrefetchRequest(flist: unsigned.path, scope: .all))
                let job = try await other.node.prefetch(PrefetchRequest(flist: signed.path, scope: .all))
                _ = try await other.finished(job)
                #expect(strict.holds(signed) == 1 && strict.holds(unsigned) == 0)
                #expect(try await strict.node.status(of: nil).flists.map(\.name) == ["a.fl"])
                #expect(try strict.node.files.list().count == 1)
                for name in ["b.fl", refusedOne.digest] {
                    await refused("no peer has a signature of it by one of trust.keys") { try await strict.node.open(name) }
                }
                // Once somebody has its signature, the job goes on.
                try unsigned.sign(key)
                _ = try await other.node.open(unsigned.path)
                try await eventually("the strict node takes part") { strict.holds(unsigned) == 1 }
            }
        }

        @Test func whichFlistAURLStandsForIsNoWayAround() async throws {
            try await with([{ _ in }, strict]) { mesh in
                let (owner, strict) = (mesh.nodes[0], mesh.nodes[1])
                // A name that the other node fetches for the site.
                let nodes = mesh.nodes.map(\.node.parts.identity.id)
                let names = (0..<100).map { "image\($0).fl" }.filter { name in
                    Rendezvous.owner(ofKey: FlistOpener.key(ofURL: "\(mesh.hub.url)/\(name)"), among: nodes) == nodes[0]
                }
                let packed = try mesh.pack(names[0], sizes: [1000])
                let known = try await owner.node.open(packed.url)
                await refused("\(names[0]) is not signed") { try await strict.node.open(packed.url) }
                #expect(try strict.node.files.list().isEmpty)
                // The owner has no signature, the hub has.
                let second = try mesh.pack(names[1], sizes: [1000], seed: 2)
                try second.sign(key)
                _ = try await owner.node.open(second.url)
                #expect(try await strict.node.open(second.url).signature?.trusted == true)
                #expect(mesh.hub.requests("/" + names[1]) == 1, "the flist itself crosses the line once")
                // Without the hub, too.
                mesh.hub.setDown(true)
                await refused("what the site has cannot be used either") { try await strict.node.open(packed.url) }
                let digest = try #require(FlistDigest(hex: known.digest))
                #expect(strict.node.parts.flists.entry(digest) == nil)
            }
        }

        @Test func wrongSignaturesOfPeersAreSeenThrough() async throws {
            try await with([trust]) { mesh in
                let node = mesh.nodes[0]
                let (packed, other) = (try mesh.pack("image.fl", sizes: [1000]), try mesh.pack("other.fl", sizes: [1000], seed: 2))
                for flist in [packed, other] { try flist.sign(key) }
                let good = [UInt8](try Data(contentsOf: URL(fileURLWithPath: packed.path + ".minisig")))
                let wrong = [UInt8](try Data(contentsOf: URL(fileURLWithPath: other.path + ".minisig")))
                let liar = try FakePeer(seed: node.port, answer: sendFlist(packed.path, signature: wrong))
                let digest = try liar.announce(packed.path, holds: false, isSigned: true)
                try await eventually("the flist is announced") { !node.node.parts.gossip.nodes(knowing: digest).isEmpty }
                await refused("the signature is wrong") { try await node.node.open(digest.hex) }
                #expect(try node.node.files.list().isEmpty)
                // One honest peer is enough.
                let honest = try FakePeer(seed: node.port, answer: sendFlist(packed.path, signature: good))
                _ = try honest.announce(packed.path, holds: false, isSigned: true)
                try await eventually("both are known") { node.node.parts.gossip.nodes(knowing: digest).count == 2 }
                #expect(try await node.node.open(digest.hex).signature?.trusted == true)
                #expect(node.node.files.signature(of: digest) == good)
                for peer in [liar, honest] { await peer.stop() }
            }
        }

        @Test func oddAnswersAreNoSignatures() async throws {
            try await with([trust]) { mesh in
                let node = mesh.nodes[0]
                for (index, answer) in [[], [1, 2, 3], [UInt8](repeating: 10, count: 1 << 20)].enumerated() {
                    let packed = try mesh.pack("image\(index).fl", sizes: [1000], seed: UInt64(index + 1))
                    let peer = try FakePeer(seed: node.port, answer: sendFlist(packed.path, signature: answer))
                    let digest = try peer.announce(packed.path, holds: false, isSigned: true)
                    try await eventually("the flist is announced") { !node.node.parts.gossip.nodes(knowing: digest).isEmpty }
                    #expect(try await node.node.open(digest.hex).signature == nil)
                    #expect(node.node.files.signature(of: digest) == nil)
                    await peer.stop()
                }
            }
        }

        @Test func aSignatureThatComesLaterCounts() async throws {
            try await with([{ _ in }, trust]) { mesh in
                let (other, trusting) = (mesh.nodes[0], mesh.nodes[1])
                let packed = try mesh.pack("image.fl", sizes: [1000])
                let known = try await other.node.open(packed.path)
                let digest = try #require(FlistDigest(hex: known.digest))
                try await eventually("the flist is announced") { !trusting.node.parts.gossip.nodes(knowing: digest).isEmpty }
                #expect(try await trusting.node.open(known.digest).signature == nil)
                #expect(!trusting.node.parts.upstream.hasWay(for: digest))
                try packed.sign(key)
                _ = try await other.node.open(packed.path)
                try await eventually("the signature is announced") {
                    trusting.node.parts.gossip.nodes(knowing: digest).contains(where: \.fact.isSigned)
                }
                #expect(try await trusting.node.open(known.digest).signature?.trusted == true)
                #expect(trusting.node.parts.upstream.hasWay(for: digest))
            }
        }
    }
}

extension Packed {
    func sign(_ key: MinisignSecretKey, trusted: String = "for a test") throws {
        let signature = try key.sign(digest: try MinisignFile.digest(of: path), untrustedComment: "x", trustedComment: trusted)
        try Data(signature.fileBytes).write(to: URL(fileURLWithPath: path + ".minisig"))
    }
}

/// Sends an flist, and what it says is its signature.
func sendFlist(_ path: String, signature: [UInt8]) -> FakePeer.Answer {
    let pieces = sendPieces(of: path)
    return { request, responder in
        if case .message(MessageKind.flistSignature.rawValue, _) = request.kind { return responder.message(signature) }
        pieces(request, responder)
    }
}
