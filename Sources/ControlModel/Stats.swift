/// Answer of `GET /v1/stats`, and of `chunkmesh stats --json` (INTERFACE.md). Bytes are stored bytes of chunks, counted since
/// the daemon started.
public struct Stats: Codable, Sendable, Equatable {
    public struct Cache: Codable, Sendable, Equatable {
        public var bytes: UInt64
        public var chunks: Int
        public var maxBytes: UInt64
        public var pinnedBytes: UInt64
        public var evictedChunks: UInt64
        /// Chunks that were used without being stored, since there was no room.
        public var notStoredChunks: UInt64
        public init(bytes: UInt64, chunks: Int, maxBytes: UInt64, pinnedBytes: UInt64, evictedChunks: UInt64, notStoredChunks: UInt64) {
            (self.bytes, self.chunks, self.maxBytes) = (bytes, chunks, maxBytes)
            (self.pinnedBytes, self.evictedChunks, self.notStoredChunks) = (pinnedBytes, evictedChunks, notStoredChunks)
        }
    }

    /// Where the chunks came from that were wanted on this node.
    public struct Chunks: Codable, Sendable, Equatable {
        public var fromLocal: UInt64
        public var fromPeers: UInt64
        public var fromUpstream: UInt64
        public var toPeers: UInt64
        /// From and to other sites; the peers are those of the own site.
        public var fromSites: UInt64
        public var toSites: UInt64
        public init(
            fromLocal: UInt64, fromPeers: UInt64, fromUpstream: UInt64, toPeers: UInt64, fromSites: UInt64 = 0, toSites: UInt64 = 0
        ) {
            (self.fromSites, self.toSites) = (fromSites, toSites)
            (self.fromLocal, self.fromPeers, self.fromUpstream, self.toPeers) = (fromLocal, fromPeers, fromUpstream, toPeers)
        }
    }

    public struct Site: Codable, Sendable, Equatable {
        /// Bytes that the site pulled from upstream, per unique byte that its nodes hold of the flists they know; 1 is ideal, 0 means
        /// that nothing was pulled since the nodes started.
        public var egressRatio: Double
        public var upstreamBytes: UInt64
        public var uniqueBytes: UInt64
        public var nodes: Int
        public init(egressRatio: Double, upstreamBytes: UInt64, uniqueBytes: UInt64, nodes: Int) {
            (self.egressRatio, self.upstreamBytes, self.uniqueBytes, self.nodes) = (egressRatio, upstreamBytes, uniqueBytes, nodes)
        }
    }

    public struct Errors: Codable, Sendable, Equatable {
        /// Chunks whose bytes did not hash to their id, from peers, upstream or disk.
        public var verifyFailed: UInt64
        /// Requests to peers that were refused, cut off, stalled or timed out.
        public var peerTimeouts: UInt64
        public var upstreamErrors: UInt64
        public init(verifyFailed: UInt64, peerTimeouts: UInt64, upstreamErrors: UInt64) {
            (self.verifyFailed, self.peerTimeouts, self.upstreamErrors) = (verifyFailed, peerTimeouts, upstreamErrors)
        }
    }

    /// A store that chunks come from, since the daemon started.
    public struct Upstream: Codable, Sendable, Equatable {
        /// Without credentials; `other` is all those together that are not listed.
        public var url: String
        /// `well`, `failing` (failed last), `resting` (left alone for a while after failures), or nothing for `other`.
        public var state: String
        public var requests: UInt64
        /// Body bytes received, also of requests that failed later.
        public var bytes: UInt64
        public var failures: UInt64
        /// Answers "not here".
        public var missing: UInt64
        /// Chunks whose bytes did not hash to their id.
        public var verifyFailed: UInt64
        /// Fetches turned away while it rested.
        public var turnedAway: UInt64
        /// One line.
        public var lastError: String?
        public init(
            url: String, state: String, requests: UInt64, bytes: UInt64, failures: UInt64, missing: UInt64, verifyFailed: UInt64,
            turnedAway: UInt64, lastError: String?
        ) {
            (self.url, self.state, self.requests, self.bytes, self.failures) = (url, state, requests, bytes, failures)
            (self.missing, self.verifyFailed, self.turnedAway, self.lastError) = (missing, verifyFailed, turnedAway, lastError)
        }
    }

    /// What was not let in, or put off, since the daemon started.
    public struct Strangers: Codable, Sendable, Equatable {
        /// Gossip datagrams that no mesh key opened.
        public var foreignDatagrams: UInt64 = 0
        /// Dropped unread, since their source had sent too many such.
        public var limitedDatagrams: UInt64 = 0
        public var replayedDatagrams: UInt64 = 0
        /// Of members that sent more than one may.
        public var floodedDatagrams: UInt64 = 0
        /// Records of members that these did not sign.
        public var forgedRecords: UInt64 = 0
        /// Connections that could not prove a mesh key and an identity, or came too thick.
        public var refusedConnections: UInt64 = 0
        /// Datagrams, records and connections of nodes that hold the key, and that `mesh.allow` leaves out or a revocation names.
        public var notMembers: UInt64 = 0
        /// Requests of peers beyond what one may ask; put off.
        public var limitedRequests: UInt64 = 0
        public init() {}
    }

    /// Decoded files, from which mounts and programs read.
    public struct Decoded: Codable, Sendable, Equatable {
        public var bytes: UInt64 = 0
        public var maxBytes: UInt64 = 0
        public var files: Int = 0
        /// Reads that found all they asked for decoded, and those that waited.
        public var hits: UInt64 = 0
        public var misses: UInt64 = 0
        public var decodedBlocks: UInt64 = 0
        public var evictedFiles: UInt64 = 0
        /// Blocks for which there was no room: their bytes were sent instead.
        public var notKeptBlocks: UInt64 = 0
        public init() {}
    }

    public var name: String
    public var siteName: String
    /// The node's identity in hex.
    public var id: String
    public var version: String
    public var uptimeSeconds: Double
    public var cache: Cache
    public var chunks: Chunks
    public var bytes: Chunks
    public var site: Site
    public var errors: Errors
    /// The busiest first.
    public var upstreams: [Upstream]
    /// The site's line to upstream.
    public var line: Line?
    public var strangers: Strangers
    public var decoded: Decoded?

    public init(
        name: String, siteName: String, id: String, version: String, uptimeSeconds: Double, cache: Cache, chunks: Chunks, bytes: Chunks,
        site: Site, errors: Errors, upstreams: [Upstream] = [], line: Line? = nil, strangers: Strangers = Strangers(),
        decoded: Decoded? = nil
    ) {
        self.decoded = decoded
        (self.upstreams, self.line, self.strangers) = (upstreams, line, strangers)
        (self.name, self.siteName, self.id, self.version, self.uptimeSeconds) = (name, siteName, id, version, uptimeSeconds)
        (self.cache, self.chunks, self.bytes, self.site, self.errors) = (cache, chunks, bytes, site, errors)
    }
}

/// Answer of `GET /v1/peers`.
public struct Peers: Codable, Sendable, Equatable {
    public struct Peer: Codable, Sendable, Equatable {
        public enum State: String, Codable, Sendable { case alive, suspect, dead, left }
        public var name: String
        public var id: String
        public var site: String
        public var address: String
        public var state: State
        /// Round trip of the last gossip probe; absent before the first.
        public var rttMs: Double?
        /// Chunks that it announces of the flists known here.
        public var chunks: Int
        public var bytesFrom: UInt64
        public var bytesTo: UInt64
        public var verifyFailed: UInt64
        /// It sent wrong bytes too often and is not asked for now.
        public var shunned: Bool
        /// Its requests that were put off, since it asked too often.
        public var limited: UInt64
        public init(
            name: String, id: String, site: String, address: String, state: State, rttMs: Double?, chunks: Int, bytesFrom: UInt64,
            bytesTo: UInt64,
            verifyFailed: UInt64, shunned: Bool, limited: UInt64 = 0
        ) {
            self.limited = limited
            (self.name, self.id, self.site, self.address, self.state, self.rttMs) = (name, id, site, address, state, rttMs)
            (self.chunks, self.bytesFrom, self.bytesTo) = (chunks, bytesFrom, bytesTo)
            (self.verifyFailed, self.shunned) = (verifyFailed, shunned)
        }
    }
    /// Another site of the mesh.
    public struct Site: Codable, Sendable, Equatable {
        public struct Gateway: Codable, Sendable, Equatable {
            public var id: String
            public var address: String
            public init(id: String, address: String) { (self.id, self.address) = (id, address) }
        }
        public var name: String
        /// The nodes that speak for it.
        public var gateways: [Gateway]
        public var nodes: Int
        /// Flists of which somebody there holds chunks.
        public var flists: Int
        /// Chunks that it says it holds of the flists known here, as far as they were asked for.
        public var chunks: Int
        /// Round trip to its gateways; absent before one answered.
        public var rttMs: Double?
        public var bytesFrom: UInt64
        public var bytesTo: UInt64
        /// It answered lately.
        public var reachable: Bool
        /// This node may ask it for chunks (`mesh.sites`).
        public var allowed: Bool
        public init(
            name: String, gateways: [Gateway], nodes: Int, flists: Int, chunks: Int, rttMs: Double?, bytesFrom: UInt64, bytesTo: UInt64,
            reachable: Bool, allowed: Bool
        ) {
            (self.name, self.gateways, self.nodes, self.flists, self.chunks) = (name, gateways, nodes, flists, chunks)
            (self.rttMs, self.bytesFrom, self.bytesTo, self.reachable, self.allowed) = (rttMs, bytesFrom, bytesTo, reachable, allowed)
        }
    }
    /// Nodes of this site.
    public var peers: [Peer]
    public var sites: [Site]
    public init(peers: [Peer], sites: [Site] = []) { (self.peers, self.sites) = (peers, sites) }
}
