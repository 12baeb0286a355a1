/// What stands around the machine's bytes on the wire.
enum GossipOverhead {
    /// IPv4 and UDP headers (20 + 8), nonce and tag of the seal (24 + 16), and the kind, session and counter of GossipTransport (1 + 8 + 8).
    static let datagram = 28 + 40 + 17
    /// Bytes that an asker sends before its request: SYN and ACK, and the handshake by which both ends prove key and identity.
    static let streamOpening = 2 * 40 + 320
    private static let segment = 1_448
    /// Segments that TCP sends before the first acknowledgement (RFC 6928).
    private static let firstWindow = 10
    /// A switch drops what would wait longer than this for a port.
    static let portBuffer: UInt64 = 50_000_000

    /// With a header of 52 bytes (IPv4, TCP, timestamps) for each segment.
    static func stream(_ bytes: Int) -> Int { bytes + 52 * (1 + bytes / segment) }

    /// Round trips until `bytes` are through on a new connection: one to connect, one to prove the key, and those of slow start.
    static func streamTrips(_ bytes: Int) -> Int {
        var trips = 2
        var window = firstWindow * segment
        var rest = bytes
        while rest > window {
            rest -= window
            window *= 2
            trips += 1
        }
        return trips
    }
}
