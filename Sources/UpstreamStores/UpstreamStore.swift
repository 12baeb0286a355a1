public import ChunkModel

/// Where chunks come from at last: a hub or a directory.
public protocol UpstreamStore: Sendable {
    /// The URL without user name and password, for logs and error lines.
    var label: String { get }

    /// The stored bytes under `id`, **not verified**: the consumer checks them against the id and calls `noteBadContent`
    /// when they do not match.
    ///
    /// - Returns: a buffer of at most `ChunkLimits.maxStoredBytes` bytes, taken from `pool`.
    func fetch(_ id: ChunkID, priority: FetchPriority, pool: ChunkBufferPool) async throws(UpstreamError) -> ChunkBuffer

    /// The consumer found that the bytes of a fetch do not hash to their id.
    func noteBadContent()
}

extension UpstreamStore {
    /// A fetch that somebody waits for.
    public func fetch(_ id: ChunkID, pool: ChunkBufferPool) async throws(UpstreamError) -> ChunkBuffer {
        try await fetch(id, priority: .foreground, pool: pool)
    }
}

/// How a store names a chunk (FORMATS.md §1.5).
enum StoreLayout: Sendable {
    /// `XX/HEX`, XX being the first two digits of HEX: what rfs writes.
    case split
    /// `HEX`.
    case flat

    var other: StoreLayout { self == .split ? .flat : .split }

    /// The name below the base of the store, without a leading slash.
    func name(of id: ChunkID) -> String {
        let hex = id.hex
        return self == .split ? "\(hex.prefix(2))/\(hex)" : hex
    }
}
