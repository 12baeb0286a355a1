public import ChunkModel
internal import Flist
internal import Glibc

/// A store that packing writes to, and the route that is recorded for it.
public struct PackStore: Sendable {
    /// Chunks whose id starts with one of these bytes go there.
    public let range: ClosedRange<UInt8>
    /// As recorded in the flist, where readers find it; passwords are taken out unless `PackSession.Options.keepPasswords`.
    public let url: String
    public let sink: any ChunkSink

    public init(range: ClosedRange<UInt8> = 0...255, url: String, sink: any ChunkSink) {
        (self.range, self.url, self.sink) = (range, url, sink)
    }

    /// A store from `URL` or `xx-yy=URL` (two hex digits each, both ends inclusive), the URL being that of a store or a plain path.
    ///
    /// - Parameter open: the sink of a URL; directories need none.
    public init(argument: String, open: (_ url: String) throws -> any ChunkSink = Self.directoriesOnly) throws {
        let (range, place) = try Self.split(argument)
        if place.hasPrefix("dir://") || !place.contains("://") {
            let store = place.hasPrefix("dir://") ? try DirStore(url: place) : DirStore(path: place)
            self.init(range: range, url: try DirStore.url(path: store.path), sink: store)
        } else {
            self.init(range: range, url: place, sink: try open(place))
        }
    }

    public static func directoriesOnly(_ url: String) throws -> any ChunkSink {
        throw ToolError("\(FlistPath.quoted(Array(withoutPassword(url).utf8))): no store that can be written to (dir:///path)")
    }

    /// The range (all when none is given) and the rest of `xx-yy=rest`.
    public static func split(_ argument: String) throws -> (range: ClosedRange<UInt8>, rest: String) {
        let text = Array(argument.utf8)
        guard text.count > 6, text[2] == UInt8(ascii: "-"), text[5] == UInt8(ascii: "="),
            let start = UInt8(String(decoding: text[0..<2], as: UTF8.self), radix: 16),
            let end = UInt8(String(decoding: text[3..<5], as: UTF8.self), radix: 16)
        else { return (0...255, argument) }
        guard start <= end else { throw ToolError("\(FlistPath.quoted(text)): the range ends before it begins") }
        return (start...end, String(decoding: text[6...], as: UTF8.self))
    }

    /// `url` without the password in its user info, and without what is all secret: the keys of s3, the user info of redis, the token
    /// of a server.
    public static func withoutPassword(_ url: String) -> String {
        guard let scheme = url.range(of: "://") else { return url }
        let rest = url[scheme.upperBound...]
        let name = url[..<scheme.lowerBound].lowercased()
        if name == "server" { return withoutToken(url) }
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        guard let at = authority.lastIndex(of: "@") else { return url }
        let hidesUser = ["s3", "s3s", "redis", "ardb"].contains(name)
        let colon = hidesUser ? authority.startIndex : authority[..<at].firstIndex(of: ":")
        guard let colon else { return url }
        let user = authority[..<colon]
        return String(url[..<scheme.upperBound] + user + (user.isEmpty ? rest[rest.index(after: at)...] : rest[at...]))
    }

    private static func withoutToken(_ url: String) -> String {
        guard let mark = url.firstIndex(of: "?") else { return url }
        let kept = url[url.index(after: mark)...].split(separator: "&").filter { !$0.hasPrefix("token=") }
        return String(url[..<mark]) + (kept.isEmpty ? "" : "?" + kept.joined(separator: "&"))
    }
}

extension String {
    /// Where `text` first occurs.
    fileprivate func range(of text: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
