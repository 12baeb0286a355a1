/// Whether people stopped the line of a site, and until when. Every node repeats the newest that it has heard, so that it outlives the node
/// that was told first; of two, the one with the higher version holds.
public struct LinePause: Sendable, Hashable {
    public enum Extent: UInt8, Sendable, Hashable {
        case none = 0
        /// Prefetches and read-ahead.
        case background = 1
        /// Reads too.
        case all = 2
    }

    public var version: UInt64
    public var extent: Extent
    /// Seconds since 1970; 0 is until it is taken back.
    public var until: Int64

    public init(version: UInt64 = 0, extent: Extent = .none, until: Int64 = 0) {
        (self.version, self.extent, self.until) = (version, extent, until)
    }

    /// What holds at `now`.
    public func extent(at now: Int64) -> Extent { until > 0 && now >= until ? .none : extent }

    /// The one that follows this one.
    public func changed(to extent: Extent, until: Int64) -> LinePause { LinePause(version: version &+ 1, extent: extent, until: until) }

    /// The newer of two; of two that were made at the same time the stricter and longer one.
    public func merged(with other: LinePause) -> LinePause {
        let mine = (version, extent.rawValue, until == 0 ? Int64.max : until)
        let theirs = (other.version, other.extent.rawValue, other.until == 0 ? Int64.max : other.until)
        return mine >= theirs ? self : other
    }
}
