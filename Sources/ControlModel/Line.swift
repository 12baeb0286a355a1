/// The site's line to upstream: answer of `GET /v1/line` and `POST /v1/line`, and a part of `GET /v1/stats`. Bytes are those on the line,
/// headers and all, as far as a node can tell.
public struct Line: Codable, Sendable, Equatable {
    public struct Node: Codable, Sendable, Equatable {
        public var name: String
        public var id: String
        /// `nothing`, `prefetch` or `read`.
        public var wants: String
        /// Its share; absent while the line has no limit.
        public var bitsPerSecond: UInt64?
        public var monthBytes: UInt64
        public init(name: String, id: String, wants: String, bitsPerSecond: UInt64?, monthBytes: UInt64) {
            (self.name, self.id, self.wants, self.bitsPerSecond, self.monthBytes) = (name, id, wants, bitsPerSecond, monthBytes)
        }
    }

    /// `open`, `paused` (prefetches wait), `stopped` (everything waits), `off` (by `upstream.windows`) or `capReached`.
    public var state: String
    /// Why it is not open: one line.
    public var reason: String?
    /// When that ends, in seconds since 1970, where it is known.
    public var until: Int64?
    /// What the site may pull at this hour; absent without a limit.
    public var bitsPerSecond: UInt64?
    /// This node's share of it.
    public var shareBitsPerSecond: UInt64?
    /// What the site pulled in this accounting month and on this day, nodes that have gone included.
    public var monthBytes: UInt64
    public var dayBytes: UInt64
    /// Absent without one.
    public var monthlyCap: UInt64?
    /// What this node pulled since it started.
    public var nodeBytes: UInt64
    /// Nodes of the site, this one first.
    public var nodes: [Node]

    public init(
        state: String, reason: String?, until: Int64?, bitsPerSecond: UInt64?, shareBitsPerSecond: UInt64?, monthBytes: UInt64,
        dayBytes: UInt64, monthlyCap: UInt64?, nodeBytes: UInt64, nodes: [Node]
    ) {
        (self.state, self.reason, self.until) = (state, reason, until)
        (self.bitsPerSecond, self.shareBitsPerSecond) = (bitsPerSecond, shareBitsPerSecond)
        (self.monthBytes, self.dayBytes, self.monthlyCap, self.nodeBytes, self.nodes) = (monthBytes, dayBytes, monthlyCap, nodeBytes, nodes)
    }
}

/// Body of `POST /v1/line`.
public struct LineRequest: Codable, Sendable, Equatable {
    public enum Action: String, Codable, Sendable, CaseIterable { case pause, resume }
    public var action: Action
    /// Stop readers too.
    public var all: Bool?
    /// The pause ends by itself after so many seconds.
    public var seconds: Int64?
    public init(action: Action, all: Bool? = nil, seconds: Int64? = nil) { (self.action, self.all, self.seconds) = (action, all, seconds) }
}
