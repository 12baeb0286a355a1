internal import Synchronization

/// What earlier answers tell of servers, by host and port: whether they serve parts of a file, and how far away they are.
public final class ServerFacts: Sendable {
    /// Servers that are remembered; for a further one another is forgotten, and learnt anew when it answers.
    static let maxServers = 256
    /// Parts of a chunk are asked for at once from servers that are at least so many seconds away, there and back: nearer ones send a chunk
    /// before it would pay.
    public static let leastRoundTrip = 0.005

    private struct Facts {
        /// `nil` is not known.
        var servesParts: Bool?
        /// The shortest seen, in seconds.
        var roundTrip: Double?
    }
    private let known = Mutex<[Endpoint: Facts]>([:])
    private let leastRoundTrip: Double

    public init(leastRoundTrip: Double = ServerFacts.leastRoundTrip) { self.leastRoundTrip = leastRoundTrip }

    /// An answer came to a request for a file, or for a part of one.
    func note(_ response: CurlResponse, of server: Endpoint) {
        change(server) { facts in
            // Who once sent something else than the part that was asked for is not believed again.
            if facts.servesParts == nil, response.status == 206 || response.status == 200 && response.offersParts {
                facts.servesParts = true
            }
            if let roundTrip = response.roundTrip { facts.roundTrip = min(facts.roundTrip ?? roundTrip, roundTrip) }
        }
    }

    /// It does not send what it was asked for.
    func noteWrongParts(of server: Endpoint) { change(server) { $0.servesParts = false } }

    /// Whether a chunk is to be asked for in parts.
    func isForParts(_ server: Endpoint) -> Bool {
        known.withLock { known in
            guard let facts = known[server], facts.servesParts == true, let roundTrip = facts.roundTrip else { return false }
            return roundTrip >= leastRoundTrip
        }
    }

    /// Whether it would be good to know if it serves parts.
    func isUnknown(_ server: Endpoint) -> Bool { known.withLock { $0[server]?.servesParts == nil } }

    private func change(_ server: Endpoint, _ body: (inout Facts) -> Void) {
        known.withLock { known in
            if known[server] == nil, known.count >= Self.maxServers, let other = known.keys.first { known[other] = nil }
            body(&known[server, default: Facts()])
        }
    }
}
