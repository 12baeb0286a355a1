internal import Glibc
internal import NodeConfiguration

/// Where an flist and its chunks come from.
public enum FlistAccess: Sendable {
    /// The daemon on this machine; without one, stand-alone.
    case automatic
    /// The daemon whose `api.socket` this is; that of a daemon with the defaults when `nil`.
    case daemon(socket: String? = nil)
    /// Without a daemon: from the flist's own routes, or from these stores in their place. A store is a URL such as `https://…`, `s3s://…`,
    /// `zdb://…`, or the path of a directory.
    case standAlone(stores: [String] = [])
}

/// Bounds of what reading takes.
public struct ReadOptions: Sendable {
    /// How long one call to the daemon may take; a daemon that is away is waited for as long.
    public var deadline: Duration = .seconds(60)
    /// Stand-alone: bytes of memory for decoded blocks.
    public var memory = 64 << 20
    /// Stand-alone: a directory of its own for chunks, kept for the next time; `nil` keeps none. One process at a time.
    public var cacheDirectory: String?
    /// Stand-alone: bytes of chunks in that directory.
    public var cacheBytes: Int64 = 20 << 30
    /// Stand-alone: a file with names, passwords and keys of stores by host, in the format of netrc. The variable
    /// `CHUNKMESH_UPSTREAM_CREDENTIALS_FILE` when nothing else is said.
    public var credentialsFile: String? = environment("CHUNKMESH_UPSTREAM_CREDENTIALS_FILE")

    public init() {}

    /// The `api.socket` of a daemon that runs with the defaults and this user's environment.
    public static var defaultSocket: String {
        var known: [String: String] = [:]
        for name in ["XDG_CACHE_HOME", "HOME"] { known[name] = environment(name) }
        return environment("CHUNKMESH_API_SOCKET") ?? Configuration.defaultSocket(environment: known)
    }

    private static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }
}
