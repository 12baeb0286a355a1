internal import Glibc
internal import MeshKeys
internal import Yams

extension Configuration {
    /// A configuration file larger than this is refused unread.
    static let maxFileBytes = 1 << 20

    /// Defaults, then the file, then the environment: each overrides what came before.
    ///
    /// - Parameters:
    ///   - file: path of a YAML file, or `nil` for none.
    ///   - environment: the variables of the process; only names that begin with `CHUNKMESH_` count.
    /// - Throws: `ConfigurationError` with the line of an unknown key or a value out of range.
    public static func load(file: String?, environment: [String: String]) throws -> Configuration {
        var configuration = defaults(environment: environment)
        var socketGiven = false
        var requiredAt = ""
        if let file {
            for (key, setting, line) in try settings(ofFile: file) {
                let place = "\(file):\(line)"
                try configuration.set(key, setting, place: place)
                socketGiven = socketGiven || key == "api.socket"
                if key == "trust.requireSigned" { requiredAt = place }
            }
        }
        for key in ConfigurationKey.all {
            guard let value = environment[key.environmentName] else { continue }
            try configuration.set(key.name, .text(value), place: key.environmentName)
            socketGiven = socketGiven || key.name == "api.socket"
            if key.name == "trust.requireSigned" { requiredAt = key.environmentName }
        }
        // It would refuse every flist.
        guard !configuration.trust.requireSigned || !configuration.trust.keys.isEmpty else {
            throw ConfigurationError(
                place: requiredAt, reason: "trust.requireSigned needs trust.keys, the public keys that signatures count of")
        }
        if !socketGiven { configuration.api.socket = configuration.cache.dir + "/api.sock" }
        return configuration
    }

    /// The Unix socket of a daemon that runs with the defaults; where the command line looks first.
    public static func defaultSocket(environment: [String: String]) -> String { defaults(environment: environment).api.socket }

    private static func defaults(environment: [String: String]) -> Configuration {
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, name.count - 1)
        let host = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let dir: String
        if geteuid() == 0 {
            dir = "/var/cache/chunkmesh"
        } else {
            let base = environment["XDG_CACHE_HOME"].flatMap { $0.hasPrefix("/") ? $0 : nil } ?? (environment["HOME"] ?? "/tmp") + "/.cache"
            dir = base + "/chunkmesh"
        }
        return Configuration(
            node: Node(name: host.isEmpty ? "node" : String(host.prefix(64))), cache: Cache(dir: dir), api: API(socket: dir + "/api.sock"))
    }

    private mutating func set(_ name: String, _ setting: Setting, place: String) throws {
        guard let key = ConfigurationKey.all.first(where: { $0.name == name }) else {
            throw ConfigurationError(place: place, reason: "unknown key \(name)")
        }
        do {
            try key.apply(setting, &self)
        } catch let error as ValueError {
            throw ConfigurationError(place: place, reason: "\(name) \(error.reason)")
        }
    }

    // MARK: YAML

    private static func settings(ofFile path: String) throws -> [(key: String, setting: Setting, line: Int)] {
        let node: Yams.Node?
        do {
            node = try Yams.compose(yaml: try read(path))
        } catch let error as YamlError {
            throw ConfigurationError(place: path, reason: "not valid YAML: \("\(error)".split(separator: "\n").first ?? "")")
        }
        guard let node else { return [] }
        var out: [(String, Setting, Int)] = []
        try flatten(node, prefix: "", file: path, into: &out)
        return out
    }

    private static func flatten(_ node: Yams.Node, prefix: String, file: String, into out: inout [(String, Setting, Int)]) throws {
        guard case .mapping(let mapping) = node else {
            throw ConfigurationError(
                place: "\(file):\(node.mark?.line ?? 1)", reason: "\(prefix.isEmpty ? "the file" : prefix) must hold keys with values")
        }
        for (key, value) in mapping {
            guard let name = key.string else {
                throw ConfigurationError(place: "\(file):\(key.mark?.line ?? 1)", reason: "a key must be text")
            }
            let full = prefix.isEmpty ? name : prefix + "." + name
            let line = key.mark?.line ?? 1
            switch value {
            case .mapping: try flatten(value, prefix: full, file: file, into: &out)
            case .scalar(let scalar): out.append((full, .text(scalar.string), line))
            case .sequence(let items):
                let texts = try items.map { item in
                    guard let text = item.scalar?.string else {
                        throw ConfigurationError(place: "\(file):\(item.mark?.line ?? line)", reason: "\(full) takes a list of texts")
                    }
                    return text
                }
                out.append((full, .list(texts), line))
            case .alias: throw ConfigurationError(place: "\(file):\(line)", reason: "aliases are not supported")
            }
        }
    }

    private static func read(_ path: String) throws -> String {
        guard let file = fopen(path, "re") else {
            throw ConfigurationError(place: path, reason: "cannot be read: \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: maxFileBytes + 1)
        let count = fread(&bytes, 1, bytes.count, file)
        guard count <= maxFileBytes else { throw ConfigurationError(place: path, reason: "is larger than \(maxFileBytes) bytes") }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
}
