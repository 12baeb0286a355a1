import Foundation
import LineBudget
import MeshKeys
import Minisign
import NodeConfiguration
import Testing

@Suite struct ConfigurationTests {
    private func load(_ yaml: String, environment: [String: String] = [:]) throws -> Configuration {
        let path = NSTemporaryDirectory() + "chunkmesh-\(UUID().uuidString).yaml"
        try yaml.write(toFile: path, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try Configuration.load(file: path, environment: environment)
    }

    @Test func everythingHasADefault() throws {
        let configuration = try Configuration.load(file: nil, environment: [:])
        #expect(configuration.node.site == "default" && !configuration.node.name.isEmpty)
        #expect(configuration.mesh.listen.port == 7946 && configuration.api.listen?.port == 7947)
        #expect(configuration.api.socket == configuration.cache.dir + "/api.sock")
    }

    @Test func fileAndEnvironmentOverride() throws {
        let configuration = try load(
            """
            node: {name: rack-3, site: harbour}
            mesh:
              seeds: [a.example:7000, "[fd00::1]:7946", 10.0.0.7]
              multicast: false
            cache: {dir: /srv/c, maxSize: 20GiB, minFree: 2.5%}
            upstream: {urls: ["https://hub.example"], override: true, maxRate: 8mbit, concurrency: 3}
            api: {listen: ""}
            """, environment: ["CHUNKMESH_NODE_SITE": "quay", "CHUNKMESH_CACHE_MAX_SIZE": "500MB", "CHUNKMESH_MESH_SEEDS": "b:1, c:2"])
        #expect(configuration.node.name == "rack-3" && configuration.node.site == "quay")
        #expect(configuration.mesh.seeds == [HostPort(host: "b", port: 1), HostPort(host: "c", port: 2)] && !configuration.mesh.multicast)
        #expect(configuration.cache.maxSize == 500_000_000 && configuration.cache.minFree == .percent(2.5))
        #expect(configuration.upstream.maxRate == 8_000_000 && configuration.upstream.override && configuration.upstream.concurrency == 3)
        #expect(configuration.api.socket == "/srv/c/api.sock" && configuration.api.listen == nil)
    }

    @Test func theLineHasHoursAndAMonth() throws {
        let configuration = try load(
            """
            upstream:
              maxRate: 4mbit
              windows: ["mon-fri 22:00-06:00 20mbit", "sat,sun 00:00-24:00 8mbit"]
              monthlyCap: 50GiB from 15
            lan: {maxSend: 100mbit, maxReceive: 1gbit, mode: serve}
            """)
        let windows = try LineWindows(["mon-fri 22:00-06:00 20mbit", "sat,sun 00:00-24:00 8mbit"])
        #expect(configuration.upstream.windows == windows)
        #expect(configuration.upstream.monthlyCap == LineCap(bytes: 50 << 30, firstDay: 15))
        #expect(
            configuration.lan.maxSend == 100_000_000 && configuration.lan.maxReceive == 1_000_000_000 && configuration.lan.mode == .serve)
        // Days are listed with commas, so windows have semicolons between them in a variable.
        let same = try Configuration.load(
            file: nil, environment: ["CHUNKMESH_UPSTREAM_WINDOWS": "mon-fri 22:00-06:00 20mbit; sat,sun 00:00-24:00 8mbit"])
        #expect(same.upstream.windows == windows)
    }

    @Test(arguments: [
        ("node:\n  name: a\n  colour: red\n", ":3: unknown key node.colour"),
        ("cache:\n  maxSize: lots\n", ":2: cache.maxSize takes a size"),
        ("upstream:\n\n  concurrency: 0\n", ":3: upstream.concurrency takes a number from 1 to 1024"),
        ("mesh:\n  seeds:\n    - ok:1\n    - 'no port:x'\n", "mesh.seeds takes host:port"),
        ("upstream:\n  urls:\n    - s3+tls://u:s3cret@h/b\n", ": upstream.urls takes URLs of stores; s3+tls://h/b: no tool agrees"),
        ("upstream: {urls: ['gopher://h/']}", ":1: upstream.urls takes URLs of stores; gopher://h/: stores of the kind gopher:// are not"),
        ("upstream: {urls: ['s3://a:b/c@h/x']}", "upstream.urls takes URLs of stores; s3://h/x: "),
        ("mesh: {advertise: 0.0.0.0:1}", ":1: mesh.advertise takes a numeric address"),
        ("upstream: {monthlyCap: 1KB}", ":1: upstream.monthlyCap takes a size such as 20GiB, at least 1048576 bytes"),
        ("upstream: {monthlyCap: 1GB since 3}", ":1: upstream.monthlyCap takes a size such as 50GiB, or"),
        ("upstream: {monthlyCap: 1GB from 31}", ":1: upstream.monthlyCap takes a month that begins on day 1 to 28"),
        ("upstream: {windows: [\"daily 08:00-18:00\"]}", ":1: upstream.windows window \"daily 08:00-18:00\" is not like"),
        ("lan: {mode: none}", ":1: lan.mode takes both, serve or fetch"),
        ("lan: {maxSend: 10kbit}", ":1: lan.maxSend takes a rate such as 100mbit, at least 1mbit"),
        ("trust:\n  keys: []\n  requireSigned: true\n", ":3: trust.requireSigned needs trust.keys"),
        ("trust:\n  requireSigned: perhaps\n", ":2: trust.requireSigned takes true or false"),
        (
            "trust:\n\n  keys: [RWQnonsense]\n",
            ":3: trust.keys takes public keys of minisign (RW…) or paths of their .pub files; RWQnonsense: "
        ),
        (
            "trust: {keys: /dev/null}",
            ":1: trust.keys takes public keys of minisign (RW…) or paths of their .pub files; /dev/null: not a reg"
        ),
        ("just text", ":1: the file must hold keys"),
        ("a: [", "not valid YAML"),
    ]) func aBadLineIsNamed(yaml: String, expected: String) throws {
        let error = #expect(throws: ConfigurationError.self) { try load(yaml) }
        #expect(error?.description.contains(expected) == true, "\(error?.description ?? "")")
    }

    @Test func trustedKeysAreTextsAndFiles() throws {
        let (a, b) = (MinisignSecretKey.generate().publicKey, MinisignSecretKey.generate().publicKey)
        let path = NSTemporaryDirectory() + "chunkmesh-\(UUID().uuidString).pub"
        try b.fileText.write(toFile: path, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let configuration = try load("trust: {keys: [\(a), \(path)], requireSigned: true}")
        #expect(configuration.trust == .init(keys: [a, b], requireSigned: true))
        let environment = ["CHUNKMESH_TRUST_KEYS": "\(path), \(a)", "CHUNKMESH_TRUST_REQUIRE_SIGNED": "no"]
        #expect(try load("trust: {requireSigned: true}", environment: environment).trust == .init(keys: [b, a]))
        let required = ["CHUNKMESH_TRUST_REQUIRE_SIGNED": "yes"]
        let error = #expect(throws: ConfigurationError.self) { try load("trust: {keys: []}", environment: required) }
        #expect(error?.place == "CHUNKMESH_TRUST_REQUIRE_SIGNED")
        try "hello".write(toFile: path, atomically: true, encoding: .utf8)
        let broken = #expect(throws: ConfigurationError.self) { try load("trust: {keys: [\(path)]}") }
        #expect(broken?.description.contains(path + ": not a public key of minisign") == true)
    }

    @Test func keyFilesHoldSeveralKeysAndAreNotForEverybody() throws {
        let path = NSTemporaryDirectory() + "chunkmesh-\(UUID().uuidString).key"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let (old, new) = (MeshKeyRing.randomKey(), MeshKeyRing.randomKey())
        try "# site key\n\(Base64.encode(new))\n\n\(Base64.encode(old))\n".write(toFile: path, atomically: true, encoding: .utf8)
        chmod(path, 0o644)
        #expect(throws: ConfigurationError.self) { try MeshKeyRing.load(file: path) }
        chmod(path, 0o600)
        let ring = try MeshKeyRing.load(file: path)
        #expect(ring.open(MeshKeyRing(keys: [old])!.seal([5], context: []), context: []) == [5])
        try "c2hvcnQ=\n".write(toFile: path, atomically: true, encoding: .utf8)
        chmod(path, 0o600)
        let error = #expect(throws: ConfigurationError.self) { try MeshKeyRing.load(file: path) }
        #expect(error?.description.contains(":1: not a base64 key") == true)
    }

    @Test(arguments: [0, 1, 2, 3, 4, 31, 32, 33]) func base64GoesThereAndBack(count: Int) {
        let bytes = [UInt8]((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37) })
        #expect(Base64.encode(bytes) == Data(bytes).base64EncodedString())
        #expect(Base64.decode(Base64.encode(bytes)) == bytes)
        #expect(Base64.decode(Base64.encode(bytes) + "=") == nil)
    }
}
