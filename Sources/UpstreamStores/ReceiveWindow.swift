/// How many bytes a hub may have on their way to us, or waiting here unread, on one connection for which nobody waits.
///
/// A receiver that stops reading does not stop the sender before the buffer that it has offered is full, and on a thin line the buffers of
/// eight downloads hold seconds of traffic: whoever comes then waits for all of it. So such a connection offers no more than what keeps the
/// line full: what came in `time` at the rate of the last looks, or in two of its shortest round trips if that is longer, for then the
/// rate can still double from one look to the next. A value without clock or socket.
struct ReceiveWindow: Sendable {
    /// The least, in full segments, so that a lost one is noticed by those that follow; a sender that cannot send even one waits for a timer.
    static let leastSegments = 4
    /// Bytes of a segment on an ordinary path. On loopback they are 64 KiB.
    static let segment = 1_448
    /// Of a connection whose rate is not known yet, where no other's is.
    static let start = 65_536
    /// Beyond this the line is fast enough for what the kernel thinks right.
    static let most = 2 << 20
    /// Seconds.
    static let time = 0.02
    static let roundTrips = 2.0
    /// How much the last look counts in the rate.
    static let learning = 0.4

    /// Bytes a second; 0 is not known.
    private(set) var rate = 0.0
    /// As it stands; `nil` is not bounded.
    private(set) var bytes: Int?

    /// - Parameters:
    ///   - rate: bytes a second since the last look; `nil` when that says nothing of the line.
    ///   - sibling: the highest rate of other connections; 0 is not known.
    ///   - roundTrip: the shortest, in seconds; 0 is not known.
    ///   - limit: bytes a second of all connections together; `nil` is no limit.
    ///   - segment: bytes of the path's full segments.
    /// - Returns: the new window; `nil` is not bounded.
    mutating func look(rate seen: Double?, sibling: Double, roundTrip: Double, limit: Double?, segment: Int = ReceiveWindow.segment) -> Int?
    {
        if let seen { rate = rate == 0 ? seen : rate + (seen - rate) * Self.learning }
        let time = max(Self.time, Self.roundTrips * roundTrip)
        let expected = rate > 0 ? rate : sibling
        var window = expected > 0 ? expected * time : Double(Self.start)
        if let limit { window = min(window, limit * time) }
        guard window < Double(Self.most) else {
            bytes = nil
            return nil
        }
        var next = max(Int(window), Self.leastSegments * segment)
        // What was offered may be under way: the buffer, twice the window, must hold it.
        if let bytes { next = max(next, bytes / 2) }
        bytes = next
        return next
    }

    mutating func open() { bytes = nil }
}
