internal import ChunkModel
internal import Yams

/// Why router.yaml, or the backend of the metadata, cannot be used: a few words.
struct RoutingError: Error, Hashable {
    let reason: String
    init(_ reason: String) { self.reason = reason }
}

/// `router.yaml` of a legacy flist, as routes (FORMATS.md §2.5).
enum RouterFile {
    static let maxBytes = 64 << 10
    /// Rules of all pools.
    static let maxRules = 1024

    /// - Returns: the pools of `lookup` with tiers counting up from 0, then those of `cache`. One that is both occurs twice.
    /// - Throws: when anything in it is wrong: half a router would look in the wrong places.
    static func routes(_ bytes: [UInt8]) throws(RoutingError) -> [Route] {
        guard bytes.count <= maxBytes, let text = String(validating: bytes, as: UTF8.self) else {
            throw RoutingError("it is no text of at most \(maxBytes) bytes")
        }
        guard !usesAnchors(bytes) else { throw RoutingError("it uses anchors or aliases, which are not read") }
        let root: Node?
        do { root = try Yams.compose(yaml: text) } catch { throw RoutingError("it is not valid YAML") }
        guard let root = root?.mapping else { throw RoutingError("it holds no pools") }

        var pools: [String: [(range: ChunkRange, url: String)]] = [:]
        var rules = 0
        if let node = root["pools"] {
            guard let mapping = node.mapping else { throw RoutingError("pools is no mapping") }
            for (name, node) in mapping {
                guard let name = name.scalar?.string, let mapping = node.mapping else { throw RoutingError("a pool is no mapping") }
                var pool: [(range: ChunkRange, url: String)] = []
                for (range, url) in mapping {
                    rules += 1
                    guard rules <= maxRules else { throw RoutingError("it has more than \(maxRules) rules") }
                    // The scalar's own text: `12` and `00:10` are numbers to a YAML parser that is asked for values.
                    guard let range = range.scalar?.string, let url = url.scalar?.string else {
                        throw RoutingError("a rule of pool \(shown(name)) is not RANGE: URL")
                    }
                    pool.append((try self.range(range), try self.url(url)))
                }
                pools[name] = pool
            }
        }
        func named(_ key: String) throws(RoutingError) -> [[(range: ChunkRange, url: String)]]? {
            guard let node = root[key] else { return nil }
            guard let names = node.sequence else { throw RoutingError("\(key) is no list") }
            guard names.count <= maxRules else { throw RoutingError("\(key) names more than \(maxRules) pools") }
            var found: [[(range: ChunkRange, url: String)]] = []
            for node in names {
                guard let name = node.scalar?.string, let pool = pools[name] else {
                    throw RoutingError("\(key) names the pool \(shown(node.scalar?.string ?? "?")), which does not exist")
                }
                found.append(pool)
            }
            return found
        }
        guard let lookup = try named("lookup"), !lookup.isEmpty else { throw RoutingError("it has no lookup") }
        let cache = try named("cache") ?? []
        var routes: [Route] = []
        for (tier, pool) in lookup.enumerated() { routes += pool.map { Route(range: $0.range, url: $0.url, tier: tier) } }
        for pool in cache { routes += pool.map { Route(range: $0.range, url: $0.url, isCache: true) } }
        // A pool may be named again and again.
        guard routes.count <= maxRules else { throw RoutingError("it comes to more than \(maxRules) rules") }
        return routes
    }

    /// `HEX`, which is a prefix, or `HEX:HEX`, both ends inclusive.
    static func range(_ text: String) throws(RoutingError) -> ChunkRange {
        let ends = text.split(separator: ":", omittingEmptySubsequences: false)
        guard ends.count <= 2, text.utf8.count <= 129 else { throw RoutingError("bad range \(shown(text))") }
        let bytes = ends.map { Hex.decode($0.utf8.count.isMultiple(of: 2) ? String($0) : $0 + "0") }
        guard let lower = bytes[0], let upper = bytes[bytes.count - 1], let range = ChunkRange(from: lower, through: upper) else {
            throw RoutingError("bad range \(shown(text))")
        }
        return range
    }

    /// `SCHEME://[PASSWORD@]HOST:PORT`: whatever the scheme, 0-fs sends AUTH and GET, and no namespace.
    static func url(_ text: String) throws(RoutingError) -> String {
        guard let mark = text.range(of: "://"), text.utf8.count <= 2000 else { throw RoutingError("a rule has no URL") }
        let scheme = text[..<mark.lowerBound].lowercased()
        guard ["ardb", "zdb", "redis"].contains(scheme) else {
            throw RoutingError("the scheme \(shown(scheme)) is none of ardb, zdb, redis")
        }
        var authority = text[mark.upperBound...].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        var password = ""
        if let at = authority.lastIndex(of: "@") {
            password = StoreURL.decoded(authority[..<at])
            if password.hasPrefix(":") { password.removeFirst() }
            authority = authority[authority.index(after: at)...]
        }
        guard let colon = authority.lastIndex(of: ":"), let port = UInt16(authority[authority.index(after: colon)...]), port > 0,
            StoreURL.isHost(authority[..<colon])
        else { throw RoutingError("a rule's URL does not name a host and a port") }
        let host = StoreURL.bracketed(String(authority[..<colon]))
        return "redis://" + (password.isEmpty ? "" : ":\(StoreURL.escaped(password))@") + "\(host):\(port)"
    }

    private static func shown(_ text: some StringProtocol) -> String {
        "“" + String(String.UnicodeScalarView(text.unicodeScalars.prefix(40).map { (0x20..<0x7f).contains($0.value) ? $0 : "?" })) + "”"
    }

    /// Whether a node begins with `&` or `*`: aliases can make a small file large.
    private static func usesAnchors(_ bytes: [UInt8]) -> Bool {
        var before = UInt8(ascii: "\n")
        for byte in bytes {
            if byte == UInt8(ascii: "&") || byte == UInt8(ascii: "*"), " \t\r\n[{,".utf8.contains(before) { return true }
            before = byte
        }
        return false
    }
}

extension String {
    /// Where `part` first occurs.
    fileprivate func range(of part: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(part) { return start..<index(start, offsetBy: part.count) }
            start = index(after: start)
        }
        return nil
    }
}
