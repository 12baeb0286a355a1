public import ChunkModel

/// What the API needs of the node that it controls. Every call may take long and may be cancelled.
public protocol NodeControl: CacheControl, FileControl, KeyControl, TraceControl {
    func stats() async -> Stats
    func peers() async -> Peers
    /// - Parameter flist: name or digest; `nil` is all of them.
    func status(of flist: String?) async throws(NodeError) -> Status
    func open(_ flist: String) async throws(NodeError) -> KnownFlist
    func forget(_ flist: String) async throws(NodeError) -> KnownFlist
    func setPinned(_ flist: String, _ pinned: Bool) async throws(NodeError) -> KnownFlist
    func verify(_ flist: String, on place: VerifyPlace) async throws(NodeError) -> FlistVerification
    func prefetch(_ request: PrefetchRequest) async throws(NodeError) -> Job
    /// - Parameter wait: how long to wait for the job's end before answering.
    func job(_ id: String, wait: Duration) async throws(NodeError) -> Job
    func cancelJob(_ id: String) async throws(NodeError) -> Job
    /// - Parameters:
    ///   - path: bytes of the path inside the flist.
    ///   - after: inode number that the page before ended with, in a long directory.
    func tree(_ flist: String, path: [UInt8], after: Int64?) async throws(NodeError) -> Tree
    /// The flist file itself.
    func image(_ flist: String) async throws(NodeError) -> any ServedFile
    /// The minisign signature of the flist, as its file holds it.
    func signature(_ flist: String) async throws(NodeError) -> [UInt8]
    /// The stored bytes of a chunk of the flist, verified; fetched when they are not here.
    func chunk(_ flist: String, id: ChunkID) async throws(NodeError) -> Chunk
    /// The site's line to upstream.
    func line() async -> Line
    /// Pauses the line of the site, or lets it go on.
    func setLine(_ request: LineRequest) async throws(NodeError) -> Line
    func verifyCache() async throws(NodeError) -> CacheReport
    func collectGarbage() async throws(NodeError) -> CacheReport
    /// Figures in Prometheus' text format.
    func metrics() async -> String
    /// `nil` when the node can serve, else what it still waits for.
    func notReady() async -> String?
}

/// Where `flist verify` looks for the chunks.
public enum VerifyPlace: String, Sendable, CaseIterable { case node, site, hub }

/// A regular file of an flist, open for reading.
public protocol ServedFile: Sendable {
    var size: UInt64 { get }
    /// Seconds since 1970.
    var mtime: Int64 { get }
    /// Derived from the content: equal content, equal tag; without quotes.
    var entityTag: String { get }
    /// The plain bytes of the block that holds `offset`, from `offset` to its end or `length` bytes.
    ///
    /// - Returns: the buffer and the range in it.
    func read(at offset: UInt64, atMost length: Int) async throws -> (buffer: ChunkBuffer, range: Range<Int>)
    /// The same where the block is decoded already; `nil` when it is to be waited for.
    func ready(at offset: UInt64, atMost length: Int) -> (buffer: ChunkBuffer, range: Range<Int>)?
    /// Plain bytes from `offset`, at most `length`, where they lie in a file and in memory; `nil` when they do not. Does not wait.
    func stored(at offset: UInt64, atMost length: Int) -> StoredBytes?
    /// Sees to it that `stored` has these bytes, as far as this file is kept in that way.
    ///
    /// - Returns: `false` when they are to be read instead.
    func store(_ range: Range<UInt64>) async throws -> Bool
}

extension ServedFile {
    public func ready(at offset: UInt64, atMost length: Int) -> (buffer: ChunkBuffer, range: Range<Int>)? { nil }
    public func stored(at offset: UInt64, atMost length: Int) -> StoredBytes? { nil }
    public func store(_ range: Range<UInt64>) async throws -> Bool { false }
}

/// Why the node cannot do what it was asked, in words for the person who asked.
public enum NodeError: Error, Sendable, Equatable, CustomStringConvertible {
    case badRequest(String)
    case notFound(String)
    case conflict(String)
    /// Something that the node depends on (hub, peers, disk) failed.
    case unavailable(String)

    public var description: String {
        switch self {
        case .badRequest(let line), .notFound(let line), .conflict(let line), .unavailable(let line): line
        }
    }
}
