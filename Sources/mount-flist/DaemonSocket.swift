import FlistMount
import Glibc
import NodeConfiguration
import ReadClient

/// Where the daemon answers reads.
enum DaemonSocket {
    /// - Parameter api: `unix:/path` or `/path` of its API; `nil`: its default.
    static func path(_ api: String?) throws(MountError) -> String {
        guard let api else {
            let environment = ["HOME", "XDG_CACHE_HOME"].reduce(into: [String: String]()) { all, name in
                if let value = getenv(name) { all[name] = String(cString: value) }
            }
            return ReadClient.socket(ofAPI: Configuration.defaultSocket(environment: environment))
        }
        let path = api.hasPrefix("unix://") ? String(api.dropFirst(7)) : api.hasPrefix("unix:") ? String(api.dropFirst(5)) : api
        guard path.hasPrefix("/") else { throw MountError(.usage, "api= takes the daemon's Unix socket, not \(api)") }
        return ReadClient.socket(ofAPI: path)
    }

    /// Whether somebody listens there.
    static func answers(_ path: String) -> Bool {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { room in
            guard path.utf8.count < room.count else { return false }
            room.copyBytes(from: path.utf8)
            return true
        }
        guard fits else { return false }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
    }

    /// Local files as the daemon is told of them: by their whole path.
    static func name(_ text: String) -> String {
        guard !text.contains("://"), let resolved = realpath(text, nil) else { return text }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}
