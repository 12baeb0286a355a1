/// Time and speed that a transfer must keep to. A transfer that does not is ended and counts as a failure.
public struct TransferLimits: Sendable, Equatable {
    /// Name resolution, TCP and TLS handshake together; then the attempt fails.
    public var connect: Duration
    /// A transfer slower than this many bytes per second …
    public var lowSpeedBytes: Int
    /// … for this long is dead (also when no first byte comes); whole seconds, at least one. libcurl takes the speed over the
    /// last five seconds, so a transfer that stops after a good start is ended up to five seconds later.
    public var lowSpeedTime: Duration
    /// The whole transfer, redirects included.
    public var total: Duration

    public init(
        connect: Duration = .seconds(2), lowSpeedBytes: Int = 1_024, lowSpeedTime: Duration = .seconds(10), total: Duration = .seconds(120)
    ) {
        (self.connect, self.lowSpeedBytes, self.lowSpeedTime, self.total) = (connect, lowSpeedBytes, lowSpeedTime, total)
    }

    /// For chunks: 2 s to connect, dead below 1,024 B/s for 10 s, 120 s in all.
    public static let chunk = TransferLimits()
    /// For flists, which may be gigabytes: dead below 1,024 B/s for 10 s, six hours in all.
    public static let flist = TransferLimits(total: .seconds(6 * 3600))
}

extension Duration {
    /// Whole milliseconds, never below zero, cut at about 24 days.
    var milliseconds: Int {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        return Int(min(seconds, 2_000_000)) * 1_000 + Int(attoseconds / 1_000_000_000_000_000)
    }

    /// Seconds with one decimal, for error lines.
    var spoken: String {
        let tenths = (milliseconds + 50) / 100
        return tenths.isMultiple(of: 10) ? "\(tenths / 10) s" : "\(tenths / 10).\(tenths % 10) s"
    }

    var seconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}
