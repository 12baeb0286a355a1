public import LineBudget
public import MeshKeys
public import Minisign

/// What a node is told by its file and its environment (INTERFACE.md, chunkmeshd). Every value has a default.
public struct Configuration: Sendable, Equatable {
    public struct Node: Sendable, Equatable {
        /// Shown to people; at most 64 bytes of UTF-8.
        public var name: String
        /// Nodes with the same label share a LAN and an uplink; at most 64 bytes of UTF-8.
        public var site = "default"
    }

    public struct Mesh: Sendable, Equatable {
        /// File with base64 keys, one a line. Without it the node stays on loopback.
        public var keyFile: String?
        public var listen = HostPort(host: "0.0.0.0", port: 7946)
        /// What peers shall use; found out when `nil`.
        public var advertise: NodeAddress?
        public var seeds: [HostPort] = []
        public var multicast = true
        /// Other sites that may be asked for chunks; "*" is any.
        public var sites: [String] = []
        /// Members of the mesh; of others that hold the key nothing is taken. `nil`: all that hold the key.
        public var allow: Set<NodeID>?
        /// Chunk bytes travel sealed on this node's connections.
        public var sealChunks = false
        /// Whose signature makes a revocation count in the whole mesh, and without which no other node rotates the keys of this one.
        public var admin: MinisignPublicKey?
    }

    public struct Cache: Sendable, Equatable {
        public var dir: String
        /// Bytes of chunks.
        public var maxSize: UInt64 = 20 << 30
        public var minFree = FreeSpace.percent(5)
        /// Bytes of decoded files; 0 keeps none. `nil`: a tenth of the partition, 10 GiB at most.
        public var decodedMax: UInt64?
    }

    /// Room on the partition that the cache leaves alone.
    public enum FreeSpace: Sendable, Equatable {
        case bytes(UInt64)
        case percent(Double)
    }

    public struct Upstream: Sendable, Equatable {
        /// Hubs beside the flists' own routes, or in their place when `override` is set.
        public var urls: [String] = []
        public var override = false
        /// Names and passwords by host, in the format of netrc.
        public var credentialsFile: String?
        /// Bits a second that the site may pull from upstream; `nil` is no limit.
        public var maxRate: UInt64?
        /// Hours with another rate.
        public var windows = LineWindows()
        /// Bytes that the site may pull in a month.
        public var monthlyCap: LineCap?
        /// Requests that the whole site keeps open; every node that fetches has at least one.
        public var concurrency = 8
    }

    /// This node's part in the exchange with its neighbours.
    public struct LAN: Sendable, Equatable {
        public enum Mode: String, Sendable, CaseIterable {
            case both
            /// Sends what it holds, and fetches for nobody but its own users.
            case serve
            /// Takes chunks and sends none.
            case fetch
        }
        /// Bits a second of chunks and flists to, and from, peers; `nil` is no limit.
        public var maxSend: UInt64?
        public var maxReceive: UInt64?
        public var mode = Mode.both
    }

    public struct API: Sendable, Equatable {
        /// Path of the Unix socket.
        public var socket: String
        /// `nil` is off.
        public var listen: HostPort? = HostPort(host: "127.0.0.1", port: 7947)
    }

    public struct Trust: Sendable, Equatable {
        /// More keys than a site's images have makers.
        public static let maxKeys = 64
        /// Public keys of those whose signature on an flist counts.
        public var keys: [MinisignPublicKey] = []
        /// Refuse every flist that none of them signed.
        public var requireSigned = false
        public init(keys: [MinisignPublicKey] = [], requireSigned: Bool = false) { (self.keys, self.requireSigned) = (keys, requireSigned) }
    }

    public var node: Node
    public var mesh = Mesh()
    public var cache: Cache
    public var upstream = Upstream()
    public var lan = LAN()
    public var api: API
    public var trust = Trust()
}

/// `host:port` as people write it; the host may be a name.
public struct HostPort: Sendable, Equatable, Hashable, CustomStringConvertible {
    public var host: String
    public var port: UInt16

    public init(host: String, port: UInt16) { (self.host, self.port) = (host, port) }

    /// Reads `name:7946`, `1.2.3.4:7946` and `[::1]:7946`; a bare host gets `defaultPort` when there is one.
    public init?(_ text: String, defaultPort: UInt16? = nil) {
        var host = Substring(text)
        var port = defaultPort
        let bracketed = text.hasPrefix("[")
        if let colon = text.lastIndex(of: ":"), bracketed ? text[..<colon].hasSuffix("]") : text.firstIndex(of: ":") == colon {
            guard let number = UInt16(text[text.index(after: colon)...]) else { return nil }
            port = number
            host = text[..<colon]
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard let port, !host.isEmpty, host.utf8.count <= 253, !host.contains(where: { $0.isWhitespace || $0 == "/" }) else { return nil }
        self.init(host: String(host), port: port)
    }

    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// A line of the configuration that cannot be used.
public struct ConfigurationError: Error, CustomStringConvertible, Sendable {
    /// File and line, or the environment variable.
    public let place: String
    public let reason: String

    public init(place: String, reason: String) { (self.place, self.reason) = (place, reason) }

    public var description: String { "\(place): \(reason)" }
}
