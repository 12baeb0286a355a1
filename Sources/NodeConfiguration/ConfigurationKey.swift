/// One key of the file: its name, what it changes, and which values it takes.
///
/// Each entry throws a `ValueError` that says what would be right.
struct ConfigurationKey: Sendable {
    let name: String
    let apply: @Sendable (Setting, inout Configuration) throws -> Void

    /// `cache.maxSize` is `CHUNKMESH_CACHE_MAX_SIZE`.
    var environmentName: String {
        var out = "CHUNKMESH_"
        for character in name {
            if character == "." {
                out += "_"
            } else if character.isUppercase {
                out += "_" + String(character)
            } else {
                out += character.uppercased()
            }
        }
        return out
    }

    static let all: [ConfigurationKey] = [
        ConfigurationKey(name: "node.name") { $1.node.name = try $0.label() },
        ConfigurationKey(name: "node.site") { $1.node.site = try $0.label() },
        ConfigurationKey(name: "mesh.keyFile") { $1.mesh.keyFile = try $0.path() },
        ConfigurationKey(name: "mesh.listen") { $1.mesh.listen = try $0.numericHostPort(defaultPort: 7946) },
        ConfigurationKey(name: "mesh.advertise") { $1.mesh.advertise = try $0.address(defaultPort: 7946) },
        ConfigurationKey(name: "mesh.seeds") { $1.mesh.seeds = try $0.list { try $0.hostPort(defaultPort: 7946) } },
        ConfigurationKey(name: "mesh.multicast") { $1.mesh.multicast = try $0.bool() },
        ConfigurationKey(name: "mesh.sites") { $1.mesh.sites = try $0.list { try $0.label() } },
        ConfigurationKey(name: "mesh.allow") { $1.mesh.allow = try $0.nodeIDs() },
        ConfigurationKey(name: "mesh.sealChunks") { $1.mesh.sealChunks = try $0.bool() },
        ConfigurationKey(name: "mesh.admin") { $1.mesh.admin = try $0.signingKeys().first },
        ConfigurationKey(name: "cache.dir") { $1.cache.dir = try $0.path() },
        ConfigurationKey(name: "cache.maxSize") { $1.cache.maxSize = try $0.bytes(atLeast: 1 << 20) },
        ConfigurationKey(name: "cache.decodedMax") { $1.cache.decodedMax = try $0.bytes(atLeast: 0) },
        ConfigurationKey(name: "cache.minFree") { $1.cache.minFree = try $0.freeSpace() },
        ConfigurationKey(name: "upstream.urls") { $1.upstream.urls = try $0.list { try $0.url() } },
        ConfigurationKey(name: "upstream.override") { $1.upstream.override = try $0.bool() },
        ConfigurationKey(name: "upstream.credentialsFile") { $1.upstream.credentialsFile = try $0.path() },
        ConfigurationKey(name: "upstream.maxRate") { $1.upstream.maxRate = try $0.rate() },
        ConfigurationKey(name: "upstream.windows") { $1.upstream.windows = try $0.windows() },
        ConfigurationKey(name: "upstream.monthlyCap") { $1.upstream.monthlyCap = try $0.cap() },
        ConfigurationKey(name: "upstream.concurrency") { $1.upstream.concurrency = try $0.integer(1...1024) },
        ConfigurationKey(name: "lan.maxSend") { $1.lan.maxSend = try $0.lanRate() },
        ConfigurationKey(name: "lan.maxReceive") { $1.lan.maxReceive = try $0.lanRate() },
        ConfigurationKey(name: "lan.mode") { $1.lan.mode = try $0.lanMode() },
        ConfigurationKey(name: "api.socket") { $1.api.socket = try $0.path() },
        ConfigurationKey(name: "api.listen") { $1.api.listen = try $0.isEmpty ? nil : $0.hostPort(defaultPort: 7947) },
        ConfigurationKey(name: "trust.keys") { $1.trust.keys = try $0.signingKeys() },
        ConfigurationKey(name: "trust.requireSigned") { $1.trust.requireSigned = try $0.bool() },
    ]
}
