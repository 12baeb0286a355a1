/// The stored bytes of a chunk that were checked against its id. There is no way to hold one whose bytes do not match.
public struct Chunk: Sendable {
    public let id: ChunkID
    public let buffer: ChunkBuffer

    /// Hashes `buffer` (about 0.5 ms for 512 KiB: not for an event loop or the cooperative pool).
    ///
    /// - Returns: `nil` when the bytes do not hash to `id`.
    public init?(verifying buffer: ChunkBuffer, as id: ChunkID) {
        guard buffer.withBytes({ ChunkID(ofStored: $0, length: id.length) }) == id else { return nil }
        self.id = id
        self.buffer = buffer
    }

    /// For an encoder that has just computed the id from these bytes.
    package init(computed id: ChunkID, of buffer: ChunkBuffer) { (self.id, self.buffer) = (id, buffer) }

    public var byteCount: Int { buffer.count }
}

/// How urgent a fetch is; a higher one goes first everywhere: in the node, at the owner, at upstream.
public enum FetchPriority: UInt8, Comparable, Sendable, CaseIterable {
    case prefetch = 0
    case readAhead = 1
    case foreground = 2

    public static func < (a: FetchPriority, b: FetchPriority) -> Bool { a.rawValue < b.rawValue }
}

/// Where a chunk came from, for the figures of `chunkmesh stats`.
public enum ChunkOrigin: String, Sendable, CaseIterable {
    case local, peer, upstream
    /// A gateway of another site.
    case site
}

/// Something that chunks are read from: the cache, the mesh, an upstream. "Missing" is `nil`, so that the next source is
/// asked; "broken" throws.
public protocol ChunkSource: Sendable {
    /// - Throws: when the source failed; the chunk may still exist there.
    func chunk(_ id: ChunkID, priority: FetchPriority) async throws -> Chunk?
}
