/// Records what is read of an flist.
public protocol TraceControl: Sendable {
    /// - Throws: `unavailable` while as many traces run as a node keeps.
    func startTrace(_ request: TraceRequest) async throws(NodeError) -> Trace
    /// What was recorded from entry number `after` on; waits for more for as long as `wait`.
    func trace(_ id: String, after: Int, wait: Duration) async throws(NodeError) -> Trace
    /// Ends the trace and forgets it; entries that were not asked for yet come with the answer.
    func endTrace(_ id: String, after: Int) async throws(NodeError) -> Trace
    func traces() async -> TraceList
}

/// Body of `POST /v1/traces`.
public struct TraceRequest: Codable, Sendable, Equatable {
    public var flist: String
    public init(flist: String) { self.flist = flist }
}

/// A recording of the chunks of an flist that were read, each with its first time: answer of `/v1/traces/ID`.
public struct Trace: Codable, Sendable, Equatable {
    public struct Entry: Codable, Sendable, Equatable {
        /// The chunk's place among the chunks of the flist.
        public var index: Int
        public var chunk: String
        /// Since the trace began.
        public var seconds: Double
        public init(index: Int, chunk: String, seconds: Double) { (self.index, self.chunk, self.seconds) = (index, chunk, seconds) }
    }
    public var id: String
    public var flist: String
    public var digest: String
    /// Different chunks of the flist.
    public var chunks: Int
    /// Chunks that were read so far.
    public var recorded: Int
    public var seconds: Double
    /// Why nothing more is recorded; absent while it runs.
    public var ended: String?
    /// A part of what was recorded, in the order of reading; the next part begins with entry number `next`.
    public var entries: [Entry]
    public var next: Int
    public init(
        id: String, flist: String, digest: String, chunks: Int, recorded: Int, seconds: Double, ended: String?, entries: [Entry], next: Int
    ) {
        (self.id, self.flist, self.digest, self.chunks, self.recorded) = (id, flist, digest, chunks, recorded)
        (self.seconds, self.ended, self.entries, self.next) = (seconds, ended, entries, next)
    }
}

/// Answer of `GET /v1/traces`, without their entries.
public struct TraceList: Codable, Sendable, Equatable {
    public var traces: [Trace]
    public init(traces: [Trace]) { self.traces = traces }
}
