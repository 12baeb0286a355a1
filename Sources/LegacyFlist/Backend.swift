internal import ChunkModel
internal import Yams

/// The 0-db that the metadata names (FORMATS.md §2.2), as a route.
enum Backend {
    static let maxBytes = 16 << 10

    /// - Parameter json: `{"host": h, "port": p, "namespace": n, "password": x}`, or `socket` in place of the host.
    static func route(_ json: [UInt8], tier: Int) throws(RoutingError) -> Route {
        guard json.count <= maxBytes, let text = String(validating: json, as: UTF8.self) else {
            throw RoutingError("it is no text of at most \(maxBytes) bytes")
        }
        // JSON in flow style is YAML; the texts of scalars are all that is needed.
        let root: Node?
        do { root = try Yams.compose(yaml: text) } catch { throw RoutingError("it is not valid JSON") }
        guard let fields = root?.mapping else { throw RoutingError("it is not a JSON object") }
        func field(_ name: String) -> String? {
            guard let scalar = fields[name]?.scalar, scalar.style != .plain || scalar.string != "null" else { return nil }
            return scalar.string.isEmpty ? nil : scalar.string
        }
        let namespace = field("namespace").flatMap { $0 == "default" ? nil : $0 }
        let password = field("password").map { ":\(StoreURL.escaped($0))@" } ?? ""
        if let socket = field("socket") {
            guard socket.hasPrefix("/"), socket.utf8.count < 108 else { throw RoutingError("its socket is no absolute path") }
            let path = socket.split(separator: "/", omittingEmptySubsequences: false).map { StoreURL.escaped($0) }.joined(separator: "/")
            return Route(url: "zdb://\(password)\(path)" + (namespace.map { "?namespace=\(StoreURL.escaped($0))" } ?? ""), tier: tier)
        }
        guard let host = field("host"), StoreURL.isHost(host) else { throw RoutingError("it names no host") }
        guard let port = UInt16(field("port") ?? "9900"), port > 0 else { throw RoutingError("it names no port") }
        let url = "zdb://\(password)\(StoreURL.bracketed(host)):\(port)" + (namespace.map { "/\(StoreURL.escaped($0))" } ?? "")
        guard url.utf8.count <= 2000 else { throw RoutingError("it is too long") }
        return Route(url: url, tier: tier)
    }
}
