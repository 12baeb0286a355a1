internal import ChunkModel

/// Where a store that speaks RESP is, and how one enters it: what a `zdb://`, `redis://` or `ardb://` URL says.
///
/// * `zdb://[user][:password@]host[:9900][/namespace]` and, over a unix socket, `zdb://[:password@]/path/of/socket[?namespace=name]`
///   (FORMATS.md §1.5): the password is the namespace's; the user name is not used; `default` is the namespace that a connection
///   starts in and is not selected.
/// * `redis://[password@|user:password@]host[:6379]`, `ardb://…[:16379]` (FORMATS.md §2.5): the password is sent by AUTH, the path
///   means nothing. Without a host, the path is that of a unix socket.
///
/// User names, passwords and namespaces may be %-encoded.
struct ZDBAddress: Sendable {
    enum Place: Sendable, Equatable {
        case tcp(host: String, port: Int)
        case socket(path: String)
    }

    /// How a connection begins.
    enum Entrance: Sendable, Equatable {
        case none
        case select(namespace: String, password: String?)
        case authenticate(user: String?, password: String)
    }

    /// Longer URLs are refused.
    static let maxBytes = 2_048
    /// Bytes of a namespace's name, as zdb limits it.
    static let maxNamespaceBytes = 128
    /// The port where the URL names none.
    static let ports = ["zdb": 9_900, "redis": 6_379, "ardb": 16_379]

    let place: Place
    /// Not `default`, which is where a connection starts.
    let namespace: String?
    private let isZDB: Bool
    private var user: String?
    private(set) var password: String?
    /// The URL without user name and password, with its port: a URL as well.
    let label: String

    /// - Throws: `.unusable` where the URL cannot be understood; what may be a password is not repeated.
    init(_ url: String) throws(UpstreamError) {
        let parts = try URLParts(url)
        guard let standardPort = Self.ports[parts.scheme] else {
            throw .unusable(line: "\(Self.shown(url)): stores of the kind \(parts.scheme):// are not supported")
        }
        isZDB = parts.scheme == "zdb"
        let written: String?
        if parts.authority.isEmpty {
            let path = String(parts.path)
            guard path.utf8.count > 1, path.utf8.count < 108 else {
                throw .unusable(line: "\(Self.shown(url)): needs a host, or the absolute path of a unix socket of less than 108 bytes")
            }
            place = .socket(path: path)
            written = isZDB ? try Self.namespace(inQuery: parts.query, url) : nil
            label = "\(parts.scheme)://\(path)" + (written.map { "?namespace=\($0)" } ?? "")
        } else {
            let (host, port) = try Self.hostAndPort(parts.authority, standard: standardPort, url)
            place = .tcp(host: host, port: port)
            if isZDB, let query = parts.query {
                throw .unusable(line: "\(Self.shown(url)): ?\(Self.printable(String(query))) means nothing beside a host")
            }
            // rfs takes the last part of the path.
            written = isZDB ? parts.path.split(separator: "/").last.map(String.init) : nil
            let shownHost = host.contains(":") ? "[\(host)]" : host
            label = "\(parts.scheme)://\(shownHost):\(port)" + (written.map { "/\($0)" } ?? "")
        }
        let namespace = written.map(Self.decoded)
        if let namespace, namespace.utf8.count > Self.maxNamespaceBytes {
            throw .unusable(line: "\(Self.shown(url)): the name of a namespace has at most \(Self.maxNamespaceBytes) bytes")
        }
        self.namespace = namespace == "default" ? nil : namespace
        guard let userInfo = parts.userInfo else { return }
        let colon = userInfo.firstIndex(of: ":")
        let before = Self.decoded(String(userInfo[..<(colon ?? userInfo.endIndex)]))
        let behind = colon.map { Self.decoded(String(userInfo[userInfo.index(after: $0)...])) }
        (user, password) = isZDB || colon != nil ? (Self.nonEmpty(before), behind.flatMap(Self.nonEmpty)) : (nil, Self.nonEmpty(before))
    }

    /// What credentials are looked up for; `nil` for a unix socket.
    var endpoint: Endpoint? {
        if case .tcp(let host, let port) = place { return Endpoint(host: host, port: port) }
        return nil
    }

    /// With `credential` where the URL names none.
    func supplied(with credential: Credential?) -> ZDBAddress {
        guard password == nil, let credential else { return self }
        var copy = self
        (copy.user, copy.password) = (Self.nonEmpty(credential.user), Self.nonEmpty(credential.password))
        return copy
    }

    var entrance: Entrance {
        if isZDB { return namespace.map { .select(namespace: $0, password: password) } ?? .none }
        return password.map { .authenticate(user: user, password: $0) } ?? .none
    }

    private static func nonEmpty(_ text: String) -> String? { text.isEmpty ? nil : text }

    private static func namespace(inQuery query: Substring?, _ url: String) throws(UpstreamError) -> String? {
        guard let query else { return nil }
        let name = query.hasPrefix("namespace=") ? query.dropFirst("namespace=".count) : ""
        guard !name.isEmpty, !name.contains("&") else {
            throw .unusable(line: "\(shown(url)): behind the path of a socket stands ?namespace=NAME or nothing")
        }
        return String(name)
    }

    private static func hostAndPort(
        _ authority: Substring, standard: Int, _ url: String
    ) throws(UpstreamError) -> (host: String, port: Int) {
        let host: Substring
        let behind: Substring
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { throw notAURL(url) }
            host = authority[authority.index(after: authority.startIndex)..<end]
            behind = authority[authority.index(after: end)...]
        } else {
            let colon = authority.firstIndex(of: ":") ?? authority.endIndex
            (host, behind) = (authority[..<colon], authority[colon...])
        }
        let allowed = host.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: ":"):
                true
            default: false
            }
        }
        guard allowed, (1...253).contains(host.utf8.count) else { throw notAURL(url) }
        if behind.isEmpty || behind == ":" { return (String(host), standard) }
        guard behind.hasPrefix(":"), let port = UInt16(behind.dropFirst()), port > 0 else { throw notAURL(url) }
        return (String(host), Int(port))
    }

    private static func notAURL(_ url: String) -> UpstreamError { .unusable(line: "\(shown(url)): not a URL of a host and a port") }

    // MARK: Text

    private struct URLParts {
        let scheme: String
        let userInfo: Substring?
        /// Host and port.
        let authority: Substring
        let path: Substring
        let query: Substring?

        init(_ url: String) throws(UpstreamError) {
            guard url.utf8.count <= maxBytes, !url.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7f }),
                let colon = url.firstIndex(of: ":"), url[colon...].hasPrefix("://")
            else { throw .unusable(line: "\(ZDBAddress.shown(url)): not a URL") }
            scheme = url[..<colon].lowercased()
            let rest = url[url.index(colon, offsetBy: 3)...]
            let entrance = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
            let at = entrance.lastIndex(of: "@")
            userInfo = at.map { entrance[..<$0] }
            authority = at.map { entrance[entrance.index(after: $0)...] } ?? entrance
            let behind = rest[entrance.endIndex...].prefix { $0 != "#" }
            let mark = behind.firstIndex(of: "?")
            path = behind[..<(mark ?? behind.endIndex)]
            query = mark.map { behind[behind.index(after: $0)...] }
        }
    }

    /// `url` without anything that may be a password, even where it is written wrongly.
    static func shown(_ url: String) -> String {
        guard let colon = url.firstIndex(of: ":"), let at = url.lastIndex(of: "@"), colon < at else { return printable(url) }
        return printable(url[..<colon] + "://" + url[url.index(after: at)...])
    }

    /// Cut to what fits a log line, control characters replaced.
    static func printable(_ text: some StringProtocol) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.prefix(160).map { $0.value < 0x20 || $0.value == 0x7f ? "?" : $0 }))
    }

    /// Undoes %-encoding; where there is none, the text is meant as it stands.
    private static func decoded(_ text: String) -> String { PercentText.decoded(text) ?? text }
}
