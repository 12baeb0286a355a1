internal import BlockCodec
internal import ChunkModel

/// What a file's content is known by: the BLAKE2b-256 over its size and its ordered blocks (coding, chunk id, key). Files of different flists
/// with the same blocks are one.
struct ContentIdentity: Hashable, Sendable {
    let value: Bytes32

    init(_ value: Bytes32) { self.value = value }

    init(size: UInt64, blocks: [BlockRef]) {
        let hash = Blake2bStream()
        func add(_ bytes: [UInt8]) { bytes.withUnsafeBytes { hash.update($0) } }
        withUnsafeBytes(of: size.littleEndian) { hash.update($0) }
        for block in blocks {
            add([block.coding.rawValue])
            add(block.id.bytes)
            add(block.key.bytes)
        }
        value = hash.finish()
    }

    /// The file's name in the directory.
    var name: String { value.hex }

    init?(name: some StringProtocol) {
        guard let value = Bytes32(hex: name) else { return nil }
        self.value = value
    }
}
