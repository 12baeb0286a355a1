import ChunkModel
import MeshKeys
import Testing

@Suite struct MeshKeyRingTests {
    let old = MeshKeyRing.randomKey()
    let new = MeshKeyRing.randomKey()

    @Test func aRingOpensWhatAnyOfItsKeysSealed() throws {
        let before = try #require(MeshKeyRing(keys: [old]))
        let rotating = try #require(MeshKeyRing(keys: [new, old]))
        #expect(rotating.open(before.seal([1, 2, 3], context: [9]), context: [9]) == [1, 2, 3])
        #expect(before.open(rotating.seal([1], context: []), context: []) == nil)
    }

    @Test func anotherContextOrAFlippedBitDoesNotOpen() throws {
        let ring = try #require(MeshKeyRing(keys: [new]))
        var sealed = ring.seal([1, 2, 3], context: [1])
        #expect(ring.open(sealed, context: [2]) == nil)
        for i in sealed.indices {
            sealed[i] ^= 1
            #expect(ring.open(sealed, context: [1]) == nil)
            sealed[i] ^= 1
        }
        #expect(ring.open([], context: [1]) == nil)
        #expect(ring.open([UInt8](repeating: 0, count: 39), context: [1]) == nil)
    }

    @Test func signaturesAreTheSignersAlone() {
        let a = NodeIdentity.random()
        let b = NodeIdentity.random()
        let signature = a.sign([1, 2])
        #expect(NodeIdentity.verify(signature, of: [1, 2], by: a.id))
        #expect(!NodeIdentity.verify(signature, of: [1, 2], by: b.id))
        #expect(!NodeIdentity.verify(signature, of: [1, 3], by: a.id))
    }

    @Test(arguments: ["1.2.3.4:7946", "[::1]:80", "[fe80::1]:7946"]) func addressesKeepTheirText(text: String) {
        #expect(NodeAddress(text)?.description == text)
    }

    @Test func mappedAddressesBecomeIPv4() {
        #expect(NodeAddress("[::ffff:10.0.0.1]:7946")?.description == "10.0.0.1:7946")
        #expect(NodeAddress("host:7946") == nil)
        #expect(NodeAddress("1.2.3.4:70000") == nil)
    }
}
