public import ChunkModel

/// How a block was made into a chunk.
public enum BlockCoding: UInt8, Hashable, Sendable, CaseIterable {
    /// snappy, then AES-256-GCM (FORMATS.md §1.3): what rfs reads and writes.
    case rfs
    /// zstd in place of snappy; an `.fl` whose blocks are made so says it in a tag (`FlistTag.codec`).
    case zstd
    /// snappy, then XXTEA, with ids and keys of 16 bytes (FORMATS.md §2.4): legacy flists, and `.fl` files converted from them.
    case legacy

    /// How long the ids of its chunks are.
    public var idLength: ChunkID.Length { self == .legacy ? .legacy : .full }
    /// What `--block-codec` and the tag call it.
    public var name: String {
        switch self {
        case .rfs: "rfs"
        case .zstd: "zstd"
        case .legacy: "legacy"
        }
    }

    public init?(name: some StringProtocol) {
        guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = found
    }
}

/// A piece of a file: where it is stored, and how its plain bytes are had again.
public struct BlockRef: Hashable, Sendable {
    public let id: ChunkID
    public let key: BlockKey
    public let coding: BlockCoding

    public init(id: ChunkID, key: BlockKey, coding: BlockCoding = .rfs) { (self.id, self.key, self.coding) = (id, key, coding) }
}
