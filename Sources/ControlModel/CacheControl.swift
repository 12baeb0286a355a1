public import ChunkModel

/// What the API needs to carry a cache to another place, and to end goals.
public protocol CacheControl: Sendable {
    /// - Parameter flists: names, digests, URLs or files; empty means all that are complete here or at the site.
    func exportCache(_ flists: [String]) async throws(NodeError) -> any CacheExport
    /// Begins an import, which takes the bytes of a file as they come.
    func importCache() async throws(NodeError) -> any CacheImport
    /// Ends the site's standing goal to keep copies of the flist.
    func unkeep(_ flist: String) async throws(NodeError) -> KnownFlist
}

/// A file of `cache export`, in pieces. Asked by one at a time.
public protocol CacheExport: Sendable {
    /// The next piece; `nil` at the end.
    func next() async throws -> ChunkBuffer?
}

/// Takes in such a file. Asked by one at a time.
public protocol CacheImport: Sendable {
    /// - Returns: `false` when no more is wanted, since the file is damaged here or over.
    func take(_ bytes: ChunkBuffer) async -> Bool
    /// When there are no more bytes: what came of it.
    func finish() async -> CacheImportReport
}

/// Answer of `POST /v1/cache/import`, and of `chunkmesh cache import --json`.
public struct CacheImportReport: Codable, Sendable, Equatable {
    public struct Flist: Codable, Sendable, Equatable {
        public var name: String
        public var digest: String
        public var chunks: Int
        /// Chunks that are not in the cache after the import.
        public var missing: Int
        /// Why the flist was not taken in.
        public var error: String?
        public init(name: String, digest: String, chunks: Int, missing: Int, error: String? = nil) {
            (self.name, self.digest, self.chunks, self.missing, self.error) = (name, digest, chunks, missing, error)
        }
    }
    /// Those of the file.
    public var flists: [Flist] = []
    /// Chunks that are in the cache now and were not before, and their bytes.
    public var stored = 0
    public var storedBytes: UInt64 = 0
    /// Chunks of the file that were in the cache already.
    public var held = 0
    /// Chunks and flists whose bytes did not hash to their id.
    public var wrong = 0
    /// Chunks that the cache had no room for.
    public var notStored = 0
    /// Chunks that no known flist lists; they are not kept.
    public var unclaimed = 0
    /// The file was whole, and everything in it is in the cache.
    public var complete = false
    /// What is wrong with the file, or with the cache; one line.
    public var problem: String?
    public init() {}
}

/// What `chunkmesh cache export --json` prints.
public struct CacheExportReport: Codable, Sendable, Equatable {
    public var file: String
    public var flists: UInt64
    public var chunks: UInt64
    public var bytes: UInt64
    /// Chunks of the flists that could not be had; the file lacks them.
    public var absent: UInt64
    public init(file: String, flists: UInt64, chunks: UInt64, bytes: UInt64, absent: UInt64) {
        (self.file, self.flists, self.chunks, self.bytes, self.absent) = (file, flists, chunks, bytes, absent)
    }
}
