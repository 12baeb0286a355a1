/// Answer of `GET /v1/status`.
public struct Status: Codable, Sendable, Equatable {
    public struct Flist: Codable, Sendable, Equatable {
        public struct Node: Codable, Sendable, Equatable {
            public var chunks: Int
            public var bytes: UInt64
            public var complete: Bool
            /// Chunks that are not here.
            public var missing: Int
            public init(chunks: Int, bytes: UInt64, complete: Bool, missing: Int) {
                (self.chunks, self.bytes, self.complete, self.missing) = (chunks, bytes, complete, missing)
            }
        }
        public struct Site: Codable, Sendable, Equatable {
            /// Chunks of which at least one live node of the site holds a copy.
            public var chunks: Int
            public var complete: Bool
            /// Copies of the rarest chunk.
            public var minCopies: Int
            /// Chunks that no live node of the site holds: what only upstream can give.
            public var missing: Int
            /// Absent when the flist has no chunks, or the site is not told of it.
            public var rarest: Rarest?
            public init(chunks: Int, complete: Bool, minCopies: Int, missing: Int, rarest: Rarest? = nil) {
                (self.chunks, self.complete, self.minCopies, self.missing) = (chunks, complete, minCopies, missing)
                self.rarest = rarest
            }
        }
        /// The chunk with the fewest copies at the site, the first of several in the order of the flist.
        public struct Rarest: Codable, Sendable, Equatable {
            public struct Node: Codable, Sendable, Equatable {
                public var name: String
                public var id: String
                public init(name: String, id: String) { (self.name, self.id) = (name, id) }
            }
            public var chunk: String
            public var copies: Int
            /// Chunks with as few copies, this one included.
            public var chunks: Int
            /// Who holds it.
            public var nodes: [Node]
            public init(chunk: String, copies: Int, chunks: Int, nodes: [Node]) {
                (self.chunk, self.copies, self.chunks, self.nodes) = (chunk, copies, chunks, nodes)
            }
        }
        /// A standing goal of the site: copies of every chunk that it keeps.
        public struct Goal: Codable, Sendable, Equatable {
            public enum State: String, Codable, Sendable {
                /// This node does not have the flist yet.
                case opening
                /// A prefetch makes the copies for the first time.
                case filling
                /// Every chunk has its copies.
                case kept
                /// Copies are missing, and those who had them may come back.
                case waiting
                /// Copies are being made.
                case restoring
                /// Every node that takes part has a copy, and they are fewer than wanted.
                case short
            }
            public var copies: Int
            /// Nodes of the site that take part.
            public var nodes: Int
            /// Chunks that have as many copies as wanted, or as there are nodes.
            public var keptChunks: Int
            public var state: State
            public var note: String?
            public init(copies: Int, nodes: Int, keptChunks: Int, state: State, note: String?) {
                (self.copies, self.nodes, self.keptChunks, self.state, self.note) = (copies, nodes, keptChunks, state, note)
            }
        }
        /// How upstream answers this node, as far as it has lately wanted something from it.
        public struct Upstream: Codable, Sendable, Equatable {
            /// `false` from a failure until the next success, and where no route can be used here.
            public var reachable: Bool
            /// When it failed first and last, in seconds since 1970; absent while it is reachable or there is no route.
            public var since: Int64?
            public var lastTried: Int64?
            /// Why it is not reachable.
            public var error: String?
            public init(reachable: Bool, since: Int64? = nil, lastTried: Int64? = nil, error: String? = nil) {
                (self.reachable, self.since, self.lastTried, self.error) = (reachable, since, lastTried, error)
            }
        }
        public var name: String
        public var digest: String
        /// Unique chunks.
        public var chunks: Int
        /// Stored bytes of all chunks; estimated from those at hand until all are.
        public var bytes: UInt64
        public var pinned: Bool
        public var node: Node
        public var site: Site
        public var upstream: Upstream
        /// Absent when it is not signed, as far as the site knows.
        public var signature: FlistSigner?
        /// Absent when the site keeps no number of copies.
        public var goal: Goal?
        public init(
            name: String, digest: String, chunks: Int, bytes: UInt64, pinned: Bool, node: Node, site: Site, upstream: Upstream,
            signature: FlistSigner?
        ) {
            (self.name, self.digest, self.chunks, self.bytes, self.pinned) = (name, digest, chunks, bytes, pinned)
            (self.node, self.site, self.upstream, self.signature) = (node, site, upstream, signature)
        }
    }
    public var flists: [Flist]
    public var jobs: [Job]
    public init(flists: [Flist], jobs: [Job]) { (self.flists, self.jobs) = (flists, jobs) }
}

/// Who shall hold an flist after a prefetch.
public enum PrefetchScope: String, Codable, Sendable, CaseIterable { case node, site, all }

/// Body of `POST /v1/prefetch`.
public struct PrefetchRequest: Codable, Sendable, Equatable {
    /// Path on the daemon's machine, http(s) URL, name or digest.
    public var flist: String
    public var scope: PrefetchScope?
    /// Copies of every chunk that the site shall hold (scope `site`).
    public var copies: Int?
    public var pin: Bool?
    /// Only the files whose path matches one of these patterns (`*`, `?`; scope `node` only).
    public var path: [String]?
    /// Ids of chunks that come first, in this order (`ReadProfile.maxEntries` at most); those that the flist does not have are passed over.
    public var profile: [String]?
    /// Nothing but the chunks of `profile` (scope `node` only).
    public var onlyProfile: Bool?
    public init(
        flist: String, scope: PrefetchScope? = nil, copies: Int? = nil, pin: Bool? = nil, path: [String]? = nil, profile: [String]? = nil,
        onlyProfile: Bool? = nil
    ) {
        (self.flist, self.scope, self.copies, self.pin, self.path) = (flist, scope, copies, pin, path)
        (self.profile, self.onlyProfile) = (profile, onlyProfile)
    }
}

/// A prefetch under way or done: answer of `POST /v1/prefetch` and `GET /v1/jobs/ID`.
public struct Job: Codable, Sendable, Equatable {
    public enum State: String, Codable, Sendable { case running, done, failed, cancelled }
    public var id: String
    public var flist: String
    public var digest: String
    public var scope: PrefetchScope
    public var copies: Int
    public var pin: Bool
    public var state: State
    /// Why it failed, or what holds it up.
    public var error: String?
    /// What else is to be said of it: more copies are wanted than there are nodes.
    public var note: String?
    public var chunks: Int
    public var bytes: UInt64
    public var doneChunks: Int
    public var doneBytes: UInt64
    /// Chunks that were on this node already, came from peers, came from upstream.
    public var fromLocal: Int
    public var fromPeers: Int
    public var fromUpstream: Int
    /// Chunks that came from other sites.
    public var fromSites: Int
    public var seconds: Double
    public init(id: String, flist: String, digest: String, scope: PrefetchScope, copies: Int, pin: Bool) {
        (self.id, self.flist, self.digest, self.scope, self.copies, self.pin) = (id, flist, digest, scope, copies, pin)
        state = .running
        (chunks, bytes, doneChunks, doneBytes, fromLocal, fromPeers, fromUpstream, fromSites, seconds) = (0, 0, 0, 0, 0, 0, 0, 0, 0)
    }
}

/// Body of `POST /v1/flists`: makes an flist known without fetching its chunks.
public struct OpenRequest: Codable, Sendable, Equatable {
    public var flist: String
    public init(flist: String) { self.flist = flist }
}

/// What an flist is known as: answer of `POST /v1/flists`.
public struct KnownFlist: Codable, Sendable, Equatable {
    public var name: String
    public var digest: String
    public var chunks: Int
    /// Absent when it is not signed, as far as the site knows.
    public var signature: FlistSigner?
    public init(name: String, digest: String, chunks: Int, signature: FlistSigner? = nil) {
        (self.name, self.digest, self.chunks, self.signature) = (name, digest, chunks, signature)
    }
}

/// One entry of an flist, as listings show it. Names that are not UTF-8 are shown with replacement characters and carry their
/// bytes beside.
public struct TreeEntry: Codable, Sendable, Equatable {
    public enum Kind: String, Codable, Sendable { case file, dir, symlink, fifo, socket, chrdev, blkdev }
    public var name: String
    /// The exact bytes in hex, only where `name` cannot show them.
    public var nameHex: String?
    public var type: Kind
    public var size: UInt64
    /// Four octal digits.
    public var mode: String
    /// Seconds since 1970.
    public var mtime: Int64
    public var uid: UInt32
    public var gid: UInt32
    public var target: String?
    /// Major and minor number of a device.
    public var rdev: [UInt32]?
    public init(
        name: String, nameHex: String? = nil, type: Kind, size: UInt64, mode: String, mtime: Int64, uid: UInt32, gid: UInt32,
        target: String? = nil,
        rdev: [UInt32]? = nil
    ) {
        (self.name, self.nameHex, self.type, self.size, self.mode) = (name, nameHex, type, size, mode)
        (self.mtime, self.uid, self.gid, self.target, self.rdev) = (mtime, uid, gid, target, rdev)
    }
}

/// Answer of `GET /v1/flists/NAME/tree/PATH`.
public struct Tree: Codable, Sendable, Equatable {
    public var path: String
    public var entry: TreeEntry
    /// Children of a directory, in the order of their names; long directories come in pages that are not in order with each other.
    public var entries: [TreeEntry]
    /// Entries that were left out, and why.
    public var problems: [String]
    /// More entries follow: ask again with `?after=` this value.
    public var next: String?
    public init(path: String, entry: TreeEntry, entries: [TreeEntry], problems: [String], next: String?) {
        (self.path, self.entry, self.entries, self.problems, self.next) = (path, entry, entries, problems, next)
    }
}

/// What `POST /v1/cache/verify` and `POST /v1/cache/gc` found and did.
public struct CacheReport: Codable, Sendable, Equatable {
    public var chunks: Int
    public var bytes: UInt64
    /// Ids of chunks that did not match and were removed.
    public var removed: [String]
    public var freedBytes: UInt64
    public init(chunks: Int, bytes: UInt64, removed: [String], freedBytes: UInt64) {
        (self.chunks, self.bytes, self.removed, self.freedBytes) = (chunks, bytes, removed, freedBytes)
    }
}

/// Whether the chunks of an flist are there and right: answer of `POST /v1/flists/NAME/verify`; the command adds the signature.
public struct FlistVerification: Codable, Sendable, Equatable {
    public struct Problem: Codable, Sendable, Equatable {
        public var chunk: String
        public var reason: String
        /// The first file that needs the chunk, quoted, where that was found out.
        public var file: String?
        public init(chunk: String, reason: String, file: String? = nil) { (self.chunk, self.reason, self.file) = (chunk, reason, file) }
    }
    public var chunks: Int
    public var good: Int
    public var problems: [Problem]
    /// Present where it was checked and is right.
    public var signature: FlistSigner?
    public init(chunks: Int, good: Int, problems: [Problem], signature: FlistSigner? = nil) {
        (self.chunks, self.good, self.problems, self.signature) = (chunks, good, problems, signature)
    }
}

/// Body of every answer with a status of 400 and above.
public struct ErrorAnswer: Codable, Sendable, Equatable {
    public var error: String
    public init(error: String) { self.error = error }
}
