import ArgumentParser
import ControlClient
import ControlModel
import Glibc
import NodeConfiguration

/// Where the daemon is, and for whom the output is.
struct APIOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The daemon's API: http://host:port or unix:/path. Default: CHUNKMESH_API, then its default socket.", valueName: "URL"))
    var api: String?

    @Flag(help: "One JSON document on stdout; what is meant for people goes to stderr.")
    var json = false

    func client() throws -> ControlClient {
        if let api = api ?? getenv("CHUNKMESH_API").map({ String(cString: $0) }), !api.isEmpty {
            return ControlClient(try ControlEndpoint(api))
        }
        let environment = ["HOME", "XDG_CACHE_HOME"].reduce(into: [String: String]()) { all, name in
            if let value = getenv(name) { all[name] = String(cString: value) }
        }
        return ControlClient(.unix(Configuration.defaultSocket(environment: environment)))
    }
}

extension ControlClient {
    /// Makes the flist known to the daemon and returns the path of its resources, `/v1/flists/NAME`.
    func open(_ flist: String) throws -> String {
        let known: KnownFlist = try post("/v1/flists", OpenRequest(flist: FlistName.forDaemon(flist)))
        return Self.resource(known.digest)
    }

    static func resource(_ name: String) -> String { "/v1/flists/" + escape(path: Array(name.utf8)).replacingSlashes }
}

extension String {
    /// A name is one segment of a path.
    var replacingSlashes: String { split(separator: "/", omittingEmptySubsequences: false).joined(separator: "%2F") }
}
